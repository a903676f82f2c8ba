"""The average of the weights: its arithmetic, what is evaluated and kept, and that training does not notice it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.support import tiny
from yourbert.training.averaging import STEPS_BETWEEN, Average
from yourbert.training.checkpoint import Resume
from yourbert.training.loop import train


def test_it_follows_the_weights_with_its_decay() -> None:
    p = nn.Parameter(torch.zeros(3))
    average, expected = Average({"p": p}, 0.9), 0.0
    for step in range(1, 401):
        with torch.no_grad():
            p += 1
        average.follow(step)
        if step % STEPS_BETWEEN == 0:
            decay = min(0.9, (1 + step) / (10 + step)) ** STEPS_BETWEEN
            expected = decay * expected + (1 - decay) * step
    torch.testing.assert_close(average.weights["p"], torch.full((3,), expected))
    lag = p[0].item() - expected  # of one that follows each step it is 0.9 / (1 - 0.9) = 9
    assert lag == pytest.approx(9, abs=2.5)


def test_within_the_model_has_the_average_and_after_it_its_own() -> None:
    p = nn.Parameter(torch.ones(2))
    average = Average({"p": p}, 0.5)
    with torch.no_grad():
        p.fill_(3.0)
    with pytest.raises(ValueError, match="inside"), average.in_place():
        assert p.tolist() == [1, 1]
        raise ValueError("inside")
    assert p.tolist() == [3, 3] and average.weights["p"].tolist() == [1, 1]


def test_without_decay_nothing_is_kept_or_changed() -> None:
    p = nn.Parameter(torch.ones(2))
    average = Average({"p": p}, 0.0)
    average.follow(STEPS_BETWEEN)
    with average.in_place():
        assert p.tolist() == [1, 1]
    assert average.weights == {}


def test_the_averaged_model_is_what_was_scored(tmp_path: Path) -> None:
    """And training itself takes the same steps with it as without: the same losses."""
    curves, ends = [], []
    for decay in (0.0, 0.95):
        settings = tiny.training(epochs=3, average=decay)
        learner = tiny.learner([tiny.tokens(tiny.task())], settings)
        with Resume(tmp_path / str(decay), 1e9) as resume:
            outcome = train("tiny", learner, settings, resume)
        learner.model.eval()
        assert learner.evaluate()["mood"] == outcome.best
        curves.append([line[3] for line in outcome.curve])
        ends.append([p.detach().clone() for p in learner.model.parameters()])
    assert curves[0] == curves[1]
    assert not all(torch.equal(last, mean) for last, mean in zip(*ends, strict=True))
