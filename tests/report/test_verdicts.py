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
    assert title == "# The best model for each task"
    assert "**sst**: best with the single-task model (accuracy 0." in answer
    assert "over shared is statistically significant (p " in answer
    assert "**quora**: best with shared (accuracy 0.9" in answer
    assert "is not statistically significant (p = " in answer.split("**sts**")[1]
    assert ", the only one for this task" in answer.split("**cfimdb**: accuracy 0.")[1]
    assert answer.startswith("**shared**, one model for sst, quora and sts, is not significantly different ")


def test_a_lead_that_no_digit_shows_is_equivalent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = answers

    def alike(task: Task, labels_R: Array, quality: float, seed: list[int]) -> Array:
        """A thousandth apart from model to model, whose names differ in length."""
        return np.clip(drawn(task, labels_R, quality, seed[:1]) + 1e-3 * np.sin(np.arange(ROWS) * len(seed)), 0, 5)

    monkeypatch.setattr("tests.report.conftest.answers", alike)
    text, summary = Tree(tmp_path, params(["sts"], {"shared": ["sts"]}), QUALITY).report()
    assert 0 < abs(summary["comparisons"]["sts"]["shared"]["difference"]) < 0.0005
    assert "are equivalent within 0.01 (interval " in text.split("**sts**")[1]
