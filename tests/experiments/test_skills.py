"""Grafting: the full and the empty mask give the models after and before; a trained mask lowers the loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support import tiny
from yourbert.evaluation.metrics import calibration, calibration_error, score
from yourbert.experiments.skills import Graft, overlap
from yourbert.finetuning.losses import loss_sum
from yourbert.inference.predict import predict, to_device
from yourbert.tokens.batching import gather
from yourbert.training.checkpoint import Resume

pytestmark = pytest.mark.integration

TASK = tiny.task()


@pytest.fixture(scope="module")
def graft(tmp_path_factory: pytest.TempPathFactory) -> Graft:
    settings = tiny.training(epochs=15, dropout=0.0, head_dropout=0.0)
    learner = tiny.learner([tiny.tokens(TASK)], settings)
    before = {name: p.detach().clone() for name, p in learner.model.encoder.named_parameters()}
    with Resume(tmp_path_factory.mktemp("state") / "resume", 1e9) as resume:
        tiny.trained(learner, settings, resume)
    return Graft(learner.model.eval(), before, tiny.MACHINE)


def test_all_weights_give_the_tuned_model_and_none_the_one_before(graft: Graft) -> None:
    dev = tiny.tokens(TASK).splits["dev"]
    assert dev.labels is not None
    all_N = torch.ones(graft.num_weights, dtype=torch.bool)
    tuned = score(TASK, predict(graft.model, "mood", dev, tiny.MACHINE), dev.labels)["accuracy"]
    kept = {name: p.detach().clone() for name, p in graft.parameters.items()}
    assert graft.score(TASK, dev, all_N).score == tuned > 0.9
    assert graft.score(TASK, dev, ~all_N).score < tuned - 0.2
    assert all(torch.equal(p, kept[name]) for name, p in graft.parameters.items()), "the model is as it was"


@pytest.mark.parametrize("share", [1e-9, 0.001, 0.1])
def test_masks_have_their_size(graft: Graft, share: float) -> None:
    count = max(1, round(share * graft.num_weights))
    moved_N = graft.most_moved(share)
    trained_N = graft.trained_mask(TASK, tiny.tokens(TASK).splits["train"], share, 2, 0.3, 1)
    assert int(moved_N.sum()) == int(trained_N.sum()) == count
    distance_N = torch.cat([moved.abs().reshape(-1) for moved in graft.moved.values()])
    assert distance_N[moved_N].min() >= distance_N[~moved_N].max()


def test_a_trained_mask_scores_better_than_the_weights_that_moved_most(graft: Graft) -> None:
    train_rows = tiny.tokens(TASK).splits["train"]
    moved_N = graft.most_moved(0.05)
    trained_N = graft.trained_mask(TASK, train_rows, 0.05, 60, 0.3, 1)
    batch = gather(train_rows, np.arange(len(train_rows)))
    assert batch.labels_B is not None
    given, labels_B = ("mood", to_device(batch, tiny.MACHINE), None), torch.from_numpy(batch.labels_B)
    losses = []
    for mask_N in (moved_N, trained_N):
        scores = torch.func.functional_call(graft.model, graft.blend(mask_N.float()), given)
        losses.append(loss_sum(TASK, scores, labels_B).item())
    assert losses[1] < losses[0]
    assert 0 < overlap(trained_N, moved_N) < 1 and overlap(moved_N, moved_N) == 1


def test_calibration_error() -> None:
    probabilities_RC = np.array([[0.9, 0.1]] * 10 + [[0.35, 0.65]] * 4)
    labels_R = np.array([0] * 8 + [1] * 2 + [1] * 4)
    assert calibration_error(calibration(probabilities_RC, labels_R)) == pytest.approx((0.1 * 10 + 0.35 * 4) / 14)
