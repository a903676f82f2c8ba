"""Scores, intervals and paired tests of all models, as numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.report.conftest import QUALITY, THREE, Tree, answers, flatten, lines, params, section
from yourbert.core.tasks import Task
from yourbert.evaluation.metrics import Array


def test_the_summary_says_the_same_in_numbers(full: Tree) -> None:
    text, summary = full.report()
    own = summary["sst"]["single_task"]
    seeds = [json.loads(full.metrics("sst", s).read_text())["sst"]["dev"]["accuracy"] for s in (1, 2)]
    assert own["mean"] == pytest.approx(np.mean(seeds), abs=1e-5)
    assert own["sd"] == pytest.approx(np.std(seeds, ddof=1), abs=1e-5)
    assert own["seeds"] == 2 and own["low"] < own["mean"] < own["high"]
    assert f"{own['mean']:.3f} ± {own['sd']:.3f} ({own['low']:.3f} to {own['high']:.3f})" in text
    found = summary["comparisons"]["sst"]["shared"]
    assert found["verdict"] == "worse" and found["difference"] < found["high"] < 0
    assert found["p"] <= found["p_holm"] <= 0.05
    assert summary["overall"]["shared"]["single_task"]["mean"] == pytest.approx(
        np.mean(
            [
                summary["sst"]["single_task"]["mean"],
                summary["quora"]["single_task"]["mean"],
                (summary["sts"]["single_task"]["mean"] + 1) / 2,
            ]
        ),
        abs=1e-4,
    )
    assert "test" in summary["sst"]["single_task"] and "test" not in summary["quora"]["single_task"]
    assert not any(isinstance(leaf, list) for leaf in leaves(summary))


def leaves(value: Any) -> list[Any]:
    return [leaf for inner in value.values() for leaf in leaves(inner)] if isinstance(value, dict) else [value]


def test_one_seeds_interval_is_that_of_its_metrics_file(tmp_path: Path) -> None:
    tree = Tree(tmp_path, params(["sts"], {}, seeds=[7]), QUALITY)
    text, summary = tree.report()
    stated = json.loads(tree.metrics("sts", 7).read_text())["sts"]["dev"]
    own = summary["sts"]["single_task"]
    assert (own["low"], own["high"]) == pytest.approx((stated["pearson_low"], stated["pearson_high"]), abs=1e-4)
    assert "sd" not in own and "±" not in section(text, "Dev scores").split("\n\n")[1]
    assert "Every model was trained with one seed" in text


def test_several_mixtures_one_of_a_single_task(tmp_path: Path) -> None:
    settings = params(THREE, {"shared": THREE, "pairs": ["quora", "sts"], "alone": ["sst"]})
    tree = Tree(tmp_path, settings, {**QUALITY, "pairs": 0.6, "alone": 0.6})
    text, summary = tree.report()
    dev = section(text, "Dev scores")
    assert [line[2] for line in lines(dev, "sst")] == ["single-task", "shared", "alone"]
    assert [line[2] for line in lines(dev, "overall: quora, sts")] == ["single-task", "pairs"]
    assert set(summary["overall"]) == {"shared", "pairs"}
    assert {row: set(by) for row, by in summary["comparisons"].items()} == {
        "sst": {"shared", "alone"},
        "quora": {"shared", "pairs"},
        "sts": {"shared", "pairs"},
        "overall": {"shared", "pairs"},
    }


def test_the_same_answers_are_tested_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sequential model predicts for its frozen tasks what its first model predicts."""
    drawn = answers

    def handed_on(task: Task, labels_R: Array, quality: float, seed: list[int]) -> Array:
        run = bytes(seed[1:])
        return drawn(task, labels_R, quality, [seed[0], *(b"shared" if run == b"pairs" else run)])

    monkeypatch.setattr("tests.report.conftest.answers", handed_on)
    settings = params(THREE, {"pairs": ["quora", "sts"], "shared": THREE})
    text, summary = Tree(tmp_path, settings, {**QUALITY, "pairs": 0.6}).report()
    for task in ("quora", "sts"):
        assert summary["comparisons"][task]["shared"] == summary["comparisons"][task]["pairs"]
    assert "over all 5 comparisons of the table" in text, "sst, quora, sts, and overall of two models"


def test_a_single_task_without_mixtures(tmp_path: Path) -> None:
    text, summary = Tree(tmp_path, params(["sst"], {}), QUALITY).report()
    assert "with the single-task model, the only one for this task" in text and "vs. single-task" not in text
    assert summary["comparisons"] == {} and summary["overall"] == {}


def test_an_undefined_score_is_said_not_written_as_nan(tmp_path: Path) -> None:
    tree = Tree(tmp_path, params(["sst", "sts"], {"shared": ["sst", "sts"]}), QUALITY)
    for run, seed in (("sts", 1), ("shared", 1)):
        flatten(tree, run, seed)
    text, summary = tree.report()
    assert "**sts**: pearson is undefined: every prediction is 2.5." in text
    undefined = [line[2:] for line in lines(section(text, "Dev scores"), "sts")]
    assert undefined == [["single-task", "undefined", "-", "-"], ["shared", "undefined", "-", "-"]]
    assert "NaN" not in text and "single_task" not in summary["sts"] and summary["overall"] == {}
