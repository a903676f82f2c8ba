"""The loop: it learns, it repeats, an interrupted run ends in the same weights, and a broken step moves nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support import tiny
from tests.support.interrupted import mood, pair_of_tasks, run
from tests.support.tiny import same, weights
from yourbert.core.errors import UserError


def test_it_learns(tmp_path: Path) -> None:
    learner = mood()
    outcome = run(tmp_path, learner, learner.settings)
    assert outcome.best > 0.9
    assert outcome.steps_done == 6 * 12
    assert [line[1] for line in outcome.curve] == list(range(1, 7))
    assert outcome.cost.seconds > 0 and outcome.cost.cpu_seconds > 0 and outcome.cost.joules > 0


def test_it_leaves_the_weights_of_the_best_epoch(tmp_path: Path) -> None:
    learner = mood()
    outcome = run(tmp_path, learner, learner.settings)
    learner.model.eval()
    best = max(line[4] for line in outcome.curve if line[1])
    assert learner.evaluate()["mood"] == best == outcome.best


@pytest.mark.integration
@pytest.mark.parametrize(("select", "best"), [("mean", 2), ("mood", 1), ("sim", 3)])
def test_the_declared_score_chooses_the_epoch(
    tmp_path: Path, select: str, best: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = pair_of_tasks(tiny.training(), model_selection_metric=select)
    # A correlation of r counts as (r + 1) / 2.
    told = iter([{"mood": 0.9, "sim": 0.0}, {"mood": 0.8, "sim": 0.4}, {"mood": 0.1, "sim": 0.8}])
    monkeypatch.setattr(learner, "evaluate", lambda: next(told))
    assert run(tmp_path, learner, learner.settings).best_epoch == best


@pytest.mark.parametrize(("told", "says"), [
    ([0.9, 0.8, 0.7], "the weights of epoch 1 of 3 are kept; the dev score did not improve after the first"),
    ([0.7, 0.9, 0.8], "the weights of epoch 2 of 3 are kept"),
    ([0.7, 0.8, 0.9], None),
])  # fmt: skip
def test_which_epoch_is_kept_is_said(
    tmp_path: Path,
    told: list[float],
    says: str | None,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learner = tiny.learner([tiny.tokens(tiny.task())], tiny.training())
    scores = iter(told)
    monkeypatch.setattr(learner, "evaluate", lambda: {"mood": next(scores)})
    with caplog.at_level("INFO", "yourbert"):
        run(tmp_path, learner, learner.settings)
    kept = [message for message in caplog.messages if "are kept" in message]
    assert kept == ([f"tiny: {says}"] if says else [])


@pytest.mark.parametrize("sampling", ["joint", "annealed"])
def test_same_seed_same_bytes(tmp_path: Path, sampling: str) -> None:
    ended = []
    for _ in range(2):
        learner = pair_of_tasks(tiny.training(epochs=2), sampling=sampling)
        run(tmp_path, learner, learner.settings)
        ended.append(weights(learner.model))
    assert same(*ended)


def test_a_gradient_that_is_not_finite_stops_before_the_update(tmp_path: Path) -> None:
    settings = tiny.training()
    learner = mood()
    with torch.no_grad():
        learner.model.encoder.embeddings.word[10].fill_(float("inf"))
    before = weights(learner.model)
    with pytest.raises(UserError, match=r"T01 tiny: .* at step 1, epoch 1 \(lr \S+; mood: \d+(, \d+){7}\)") as caught:
        run(tmp_path, learner, settings)
    assert caught.value.exit_code == 6
    assert same(before, weights(learner.model))


def test_patience_stops_early(tmp_path: Path) -> None:
    settings = tiny.training(epochs=50, early_stopping_patience=2)
    learner = tiny.learner([tiny.tokens(tiny.task())], settings)
    outcome = run(tmp_path, learner, settings)
    assert outcome.epoch == outcome.best_epoch + 2 < 50
