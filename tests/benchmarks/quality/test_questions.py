"""Questions: every way is trained once, what two questions share is shared, and the answer says how sure it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.interleave import Options
from benchmarks.pages import BEGIN, END
from benchmarks.quality.asked import QUESTIONS
from benchmarks.quality.questions import section, table, ways_of
from benchmarks.quality.trials import Setup, Way, trial
from tests.support.closure import ROOT
from yourbert.config.params import read_params
from yourbert.config.schema import Mixture, Pretrain, SequentialModel, TaskData, Training
from yourbert.core.errors import UserError
from yourbert.core.storage import write_json

pytestmark = pytest.mark.integration


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
        SequentialModel.model_validate(params.multitask["shared"].model_dump() | mixed)
        Pretrain.model_validate(params.pretrain.model_dump() | dict(way.pretrain or {}))
        seen.append(repr((settings, mixed, data, way.plain, way.pretrain, way.further_text, way.alone, way.fresh)))
    assert len(set(seen)) == len(seen)


def test_nothing_is_trained_twice_and_the_page_is_filled(options: Options, tmp_path: Path) -> None:
    page = tmp_path / "findings.md"
    page.write_text(f"# Found\n\n{BEGIN}\n\n{END}\n\nThe end.\n")
    words = ["tricks", "curriculum", "defaults", "--runs", "sst", "--seeds", "1", "2", "--epochs", "1"]
    words += ["--base", options.own, "--corpus", options.corpus, "--page", page]
    words += ["--work", tmp_path / "work", "--records", tmp_path / "records", "--out", tmp_path / "questions.json"]
    command = [sys.executable, "-m", "benchmarks.quality.questions", *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment)
    known = json.loads((tmp_path / "questions.json").read_text())
    scores = known["tricks"]["runs"]["sst"]["tasks"]["sst"]["scores"]
    assert [len(scores[way]) for way in ("all on", "all off, fp32")] == [2, 2] and "| sst" in done.stdout
    assert str(tmp_path) not in known["tricks"]["command"]
    text = page.read_text()
    assert QUESTIONS["tricks"].asks in text and QUESTIONS["curriculum"].asks in text and text.endswith("The end.\n")
    records = {path: json.loads(path.read_text()) for path in (tmp_path / "records").iterdir()}
    assert len(records) == 2 * (2 + 3 + 1 - 1), "the plain way of two questions is one and the same"
    assert all(len(record["dev"]["sst"].split()) > 1 and record["seconds"] >= 0 for record in records.values())
    shutil.rmtree(tmp_path / "work")
    subprocess.run(command, check=True, cwd=ROOT, env=environment)
    assert page.read_text() == text and not (tmp_path / "work").exists(), "the records are enough"


def test_some_ways_of_a_question_are_enough() -> None:
    assert [way.name for way in ways_of("sampling", ["joint", "temperature"])] == ["annealed", "temperature", "joint"]
    assert ways_of("sampling", ["annealed"]) == [QUESTIONS["sampling"].ways[0]]
    assert ways_of("sampling", []) == [*QUESTIONS["sampling"].ways]
    with pytest.raises(UserError, match=r"P05 --ways: no way 'joined' .*; did you mean 'joint'\?"):
        ways_of("sampling", ["joined"])


def test_a_page_shows_the_ways_in_their_order() -> None:
    """Read from a file, whose keys are sorted, the first way is still the first."""
    scores = {"SMART": [0.5], "plain": [0.4]}
    against = {"SMART": {"difference": 0.1, "low": 0.0, "high": 0.2, "p_holm": 0.01, "verdict": "better"}}
    one = {"metric": "accuracy", "scores": scores, "against": against}
    found = {"seeds": [1], "seconds": {"SMART": 2.0, "plain": 1.0}, "tasks": {"sst": one}}
    facts = {"revision": "abc", "packages": {"torch": "2"}}
    shown = section("smart", {"command": "c", "machine": facts, "runs": {"sst": found}})
    assert shown.index("| plain") < shown.index("| SMART")


def test_own_models_are_set_beside_a_shared_one(options: Options, tmp_path: Path) -> None:
    """Trained once for each task and once together: the model of `init_from` is a trial before it, and counts."""
    corpus = tmp_path / "corpus"
    shutil.copytree(options.corpus, corpus)
    for task, labels in (("quora", ("0.0", "1.0")), ("sts", ("0.5", "4.0"))):
        data = read_params(ROOT / "params.yaml").tasks[task].data
        rows = [f"{n}\tgood film\t{'bad' if n % 2 else 'good'} film\t{labels[n % 2]}" for n in range(24)]
        for name in (data.train, data.dev):
            (corpus / name).write_text("\n".join([f"id\tsentence1\tsentence2\t{data.label}", *rows]) + "\n")
    words = ["--runs", "shared", "--seeds", "1", "--epochs", "1", "--base", options.own, "--corpus", corpus]
    words += ["--work", tmp_path / "work", "--records", tmp_path / "records", "--page", tmp_path / "page.md"]
    words += ["--out", tmp_path / "questions.json"]
    (tmp_path / "page.md").write_text(f"{BEGIN}\n{END}\n")
    command = [sys.executable, "-m", "benchmarks.quality.questions", "shared", *map(str, words)]
    subprocess.run(command, check=True, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"})
    found = json.loads((tmp_path / "questions.json").read_text())["shared"]["runs"]["shared"]
    assert found["tasks"].keys() == {"sst", "quora", "sts", "overall"}
    for way, (overall,) in found["tasks"]["overall"]["scores"].items():
        sst, quora, sts = (found["tasks"][task]["scores"][way][0] for task in ("sst", "quora", "sts"))
        assert overall == pytest.approx((sst + quora + (sts + 1) / 2) / 3, abs=2e-5)
    against = found["tasks"]["overall"]["against"]["multi-task model"]
    assert against["low"] <= against["difference"] <= against["high"] and 0 < against["p"] <= 1
    records = [json.loads(path.read_text()) for path in (tmp_path / "records").iterdir()]
    seconds = {record["run"]: record["seconds"] for record in records}
    assert sorted(seconds) == ["quora", "quora-sts", "shared", "sst", "sts"]
    together = seconds["quora"] + sum(seconds.pop(run) for run in ("quora-sts", "shared"))
    assert found["seconds"]["multi-task model"] == pytest.approx(together, abs=0.051)
    assert found["seconds"]["single-task models"] == pytest.approx(sum(seconds.values()), abs=0.051)


def test_a_pretraining_comes_first_and_its_seconds_count(options: Options, tmp_path: Path) -> None:
    params = read_params(ROOT / "params.yaml")
    setup = Setup(options.own, options.corpus, tmp_path / "work", tmp_path / "records", epochs=1)
    one = trial("sst", 1, Way("after", {}, pretrain={"epochs": 1}), params, setup)
    again = trial("sst", 2, Way("after", {}, pretrain={"epochs": 1}), params, setup)
    assert one.after is not None and one.after == again.after, "one pretraining serves all seeds"
    for trained, seconds in ((one.after, 7.0), (one, 2.0)):
        write_json(trained.record, {"seconds": seconds})
    assert one.seconds == 9.0 and one.known and not one.after.trained
    with pytest.raises(UserError, match=r"P07.*--text"):
        trial("sst", 1, Way("after", {}, pretrain={}, further_text=True), params, setup)
    with pytest.raises(UserError, match=r"P05.*'shared' starts from 'quora-sts'"):
        trial("shared", 1, Way("after", {}, pretrain={}), params, setup)


def test_the_table_says_how_far_apart_and_how_sure() -> None:
    against = {"b": {"difference": 0.005, "low": -0.01, "high": 0.02, "p_holm": 0.4, "verdict": "undecided"}}
    one = {"metric": "accuracy", "scores": {"a": [0.48, 0.50], "b": [0.49, 0.50]}, "against": against}
    lines = table({"sst": {"seconds": {"a": 10.0, "b": 21.0}, "tasks": {"sst": one}}}).splitlines()
    first, second = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:])
    assert first == ["sst", "sst (accuracy)", "a", "0.490 ± 0.014", "-", "10"]
    assert second[2:] == ["b", "0.495 ± 0.007", "undecided: +0.005 (-0.010 to +0.020), p = 0.400", "21"]
