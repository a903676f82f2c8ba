"""A loss that jumps is noted with its step; hard batches late in training are not."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from tests.support import tiny
from yourbert.training.checkpoint import Resume
from yourbert.training.history import FIRST, WINDOW, Spikes


def noted(losses: list[float]) -> list[int]:
    spikes = Spikes()
    for step, loss in enumerate(losses, start=1):
        spikes.record("mood", step, loss)
    return spikes.steps


def test_a_jump_is_ten_times_the_usual_and_more_than_it_began_with() -> None:
    assert noted([1.0] * FIRST + [9.9, 10.1, 1.0]) == [FIRST + 2]
    assert noted([1.0] * FIRST + [0.001] * WINDOW + [0.9]) == [], "one hard batch among easy ones"
    assert noted([1.0] * FIRST + [0.001] * WINDOW + [1.1]) == [FIRST + WINDOW + 1]
    assert noted([100.0, 1.0, 50.0]) == [], "before anybody knows what is usual"


def test_tasks_are_looked_at_by_themselves() -> None:
    spikes = Spikes()
    for step in range(FIRST + 1):
        assert spikes.record("one", step, 0.1) is None and spikes.record("other", step, 50.0) is None
    assert spikes.record("one", FIRST + 1, 50.0) == pytest.approx(0.1)


def test_training_says_which_rows_and_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    learner = tiny.learner([tiny.tokens(tiny.task(), rows=400)], tiny.training(epochs=2))
    real, odd = learner.loss, FIRST + 5

    def loss(name: str, *given: torch.Tensor) -> torch.Tensor:
        nonlocal odd
        odd -= 1
        return real(name, *given) * (1 if odd else 1000)

    learner.loss = loss  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING, "yourbert"), Resume(tmp_path / "r", 1e9) as resume:
        outcome = tiny.trained(learner, tiny.training(epochs=2), resume)
    assert outcome.spikes.steps == [FIRST + 5] and outcome.epoch == 2
    (line,) = [message for message in caplog.messages if message.startswith("T03")]
    assert f"at step {FIRST + 5} the loss of mood is" in line and "usually" in line and "mood: " in line
