"""The answer in words: who leads, and whether it is sure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.report.conftest import QUALITY, ROWS, Tree, answers, params
from yourbert.core.tasks import Task
from yourbert.evaluation.metrics import Array


def test_the_answer_comes_first_with_the_right_verdicts(full: Tree) -> None:
    text = full.report()[0]
    title, answer = text.split("\n\n")[:2]
    assert title == "# Which tailoring of BERT serves each task best"
    assert "**sst**: best served by its own model, accuracy 0." in answer and "over shared is real" in answer
    assert "**quora**: best served by shared, accuracy 0.9" in answer
    assert "is not real (p = " in answer.split("**sts**")[1]
    assert "**cfimdb** has its own model alone: accuracy 0." in answer
    assert answer.startswith("**shared**, one model for sst, quora and sts, is ")


def test_a_lead_that_no_digit_shows_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = answers

    def alike(task: Task, labels_R: Array, quality: float, seed: list[int]) -> Array:
        """A thousandth apart from model to model, whose names differ in length."""
        return np.clip(drawn(task, labels_R, quality, seed[:1]) + 1e-3 * np.sin(np.arange(ROWS) * len(seed)), 0, 5)

    monkeypatch.setattr("tests.report.conftest.answers", alike)
    text, summary = Tree(tmp_path, params(["sts"], {"shared": ["sts"]}), QUALITY).report()
    assert 0 < abs(summary["comparisons"]["sts"]["shared"]["difference"]) < 0.0005
    assert "score the same, pearson 0." in text.split("**sts**")[1]
