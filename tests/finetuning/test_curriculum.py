"""The probe of the curriculum: its errors are those of refits without the row, and outliers are difficult."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support import tiny
from yourbert.finetuning.curriculum import RIDGE, probe_errors


@pytest.mark.parametrize("kind", ["classification", "similarity"])
def test_the_error_of_a_row_is_that_of_a_fit_without_it(kind: str) -> None:
    rng, task = np.random.default_rng(1), tiny.task("t", kind)
    x_RF = rng.normal(size=(40, 6))
    labels_R = rng.integers(0, 3, 40) if task.labels else rng.random(40) * 5
    found = probe_errors(task, x_RF, labels_R)
    x = np.concatenate([x_RF - x_RF.mean(axis=0), np.ones((40, 1))], axis=1)
    y = np.eye(3)[labels_R.astype(int)] if task.labels else labels_R[:, None]
    penalty = np.diag([RIDGE * np.trace((x.T @ x)[:-1, :-1]) / 6] * 6 + [0.0])
    for row in range(40):
        rest = np.arange(40) != row
        weights = np.linalg.solve(x[rest].T @ x[rest] + penalty, x[rest].T @ y[rest])
        assert found[row] == pytest.approx(((y[row] - x[row] @ weights) ** 2).sum())


def test_a_mislabelled_row_is_the_most_difficult() -> None:
    rng, task = np.random.default_rng(2), tiny.task()
    labels_R = rng.integers(0, 3, 200)
    x_RF = np.eye(3)[labels_R] + 0.1 * rng.normal(size=(200, 3))
    labels_R[17] = (labels_R[17] + 1) % 3
    assert probe_errors(task, x_RF, labels_R).argmax() == 17
