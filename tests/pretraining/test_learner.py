"""Masked-language-model training learns, and an interrupted run ends with the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support import tiny
from yourbert.model.pretrained import load_encoder, save_encoder
from yourbert.training.checkpoint import Resume
from yourbert.training.fused.fusion import fuse
from yourbert.training.loop import EagerStepper

STILL = tiny.training(dropout=0.0, head_dropout=0.0, epochs=2)


def test_it_learns_and_the_head_is_kept(tmp_path: Path) -> None:
    """Two of the five tokens of a row name its class, so a model that reads the context is far above chance."""
    settings = tiny.training(lr=3e-3, batch_size=16, epochs=4)
    learner = tiny.mlm_learner(settings, 400)
    model = learner.model.eval()
    untrained = learner.evaluate()["mlm"]
    with Resume(tmp_path / "resume") as resume:
        outcome = tiny.trained(learner, settings, resume)
    assert outcome.best > 0.2 > 4 * untrained
    save_encoder(tmp_path / "out", model.encoder, model.head)
    loaded = load_encoder(tmp_path / "out", 0.0, torch.Generator())
    assert loaded.mlm_head is not None
    for name, tensor in model.head.state_dict().items():
        assert torch.equal(loaded.mlm_head.state_dict()[name], tensor)


def test_the_dev_mask_is_the_same_each_time() -> None:
    learner = tiny.mlm_learner(STILL)
    learner.model.eval()
    assert learner.evaluate() == learner.evaluate()


@pytest.mark.integration
def test_an_interrupted_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    settings = tiny.training(epochs=2)
    ended = [
        tiny.finished(
            tmp_path / str(dies_at),
            lambda: tiny.mlm_learner(settings),
            settings,
            lambda learner, run: EagerStepper(run, fuse(learner.model, run.optimizer, learner.machine, 32)),
            dies_at,
        )
        for dies_at in (-1, 17)
    ]
    assert ended[0][0] == ended[1][0]
    for one, other in zip(*(learner.model.parameters() for _, learner in ended), strict=True):
        assert torch.equal(one, other)
