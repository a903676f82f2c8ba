"""Questions: every way is trained once, what two questions share is shared, and the answer says how sure it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.interleave import Options
from benchmarks.pages import BEGIN, END
from benchmarks.questions import QUESTIONS, table
from yourbert.params import read_params
from yourbert.settings import Mixture, Pretrain, TaskData, Training

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_way_is_a_valid_setting_and_another_one(name: str) -> None:
    params = read_params(ROOT / "params.yaml")
    seen = []
    for way in QUESTIONS[name].ways:
        settings = {k: v for k, v in way.changes.items() if k in Training.model_fields}
        mixed = {k: v for k, v in way.changes.items() if k in Mixture.model_fields}
        data = {k: v for k, v in way.changes.items() if k in TaskData.model_fields}
        assert settings.keys() | mixed.keys() | data.keys() == way.changes.keys()
        TaskData.model_validate(params.tasks["sts"].data.model_dump() | data)
        Training.model_validate(params.training("sst").model_dump() | settings)
        Mixture.model_validate(params.mixtures["shared"].model_dump() | mixed)
        Pretrain.model_validate(params.pretrain.model_dump() | dict(way.pretrain or {}))
        assert way.init is None or way.init in {**params.tasks, **params.mixtures}
        seen.append(repr((settings, mixed, data, way.plain, way.pretrain, way.further_text, way.init)))
    assert len(set(seen)) == len(seen) >= 2


def test_nothing_is_trained_twice_and_the_page_is_filled(options: Options, tmp_path: Path) -> None:
    page = tmp_path / "findings.md"
    page.write_text(f"# Found\n\n{BEGIN}\n\n{END}\n\nThe end.\n")
    words = ["tricks", "order", "--runs", "sst", "--seeds", "1", "2", "--epochs", "1"]
    words += ["--base", options.own, "--corpus", options.corpus, "--page", page]
    words += ["--work", tmp_path / "work", "--out", tmp_path / "questions.json"]
    command = [sys.executable, "-m", "benchmarks.questions", *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment)
    known = json.loads((tmp_path / "questions.json").read_text())
    scores = known["tricks"]["runs"]["sst"]["tasks"]["sst"]["scores"]
    assert [len(scores[way]) for way in ("all on", "all off, fp32")] == [2, 2] and "| sst" in done.stdout
    assert str(tmp_path) not in known["tricks"]["command"]
    text = page.read_text()
    assert QUESTIONS["tricks"].asks in text and QUESTIONS["order"].asks in text and text.endswith("The end.\n")
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("metrics.json")}
    assert len(written) == 2 * (2 + 3 - 1), "the plain way of both questions is one and the same"
    subprocess.run(command, check=True, cwd=ROOT, env=environment)
    assert {path: path.stat().st_mtime_ns for path in written} == written and page.read_text() == text


def test_the_table_says_how_far_apart_and_how_sure() -> None:
    against = {"b": {"difference": 0.005, "low": -0.01, "high": 0.02, "p": 0.4, "verdict": "no real change"}}
    one = {"metric": "accuracy", "scores": {"a": [0.48, 0.50], "b": [0.49, 0.50]}, "against": against}
    lines = table({"sst": {"seconds": {"a": 10.0, "b": 21.0}, "tasks": {"sst": one}}}).splitlines()
    first, second = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:])
    assert first == ["sst", "sst (accuracy)", "a", "0.490 ± 0.014", "-", "10"]
    assert second[2:] == ["b", "0.495 ± 0.007", "no real change: +0.005 (-0.010 to +0.020), p = 0.400", "21"]
