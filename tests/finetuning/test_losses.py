"""Losses against their definitions; the regularizers: the divergence of two views, and training with them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support import tiny
from yourbert.finetuning.learner import TaskLearner
from yourbert.finetuning.losses import (
    SHIFT_NORM,
    adversarial_shift,
    balanced_weights,
    divergence,
    loss_sum,
    r_drop_loss,
)
from yourbert.inference.predict import to_device
from yourbert.model.attention import Packed
from yourbert.tokens.batching import gather
from yourbert.training.checkpoint import Resume

HOW = ("r_drop", "smart")


def test_classification_is_summed_cross_entropy() -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    want = sum(math.log(sum(math.exp(v) for v in row)) - row[c] for row, c in zip(logits.tolist(), (0, 2), strict=True))
    assert loss_sum(tiny.task(), logits, torch.tensor([0, 2])).item() == pytest.approx(want, rel=1e-6)


def test_a_cross_encoder_is_best_at_the_rescaled_label() -> None:
    described = tiny.task("sim", "similarity")
    labels = torch.tensor([1.0, 4.0])
    logits = torch.logit(labels / 5).requires_grad_()
    loss_sum(described, logits[:, None], labels).backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.zeros(2), atol=1e-6, rtol=0)


def test_a_cosine_is_scored_by_squared_error_on_the_rescaled_label() -> None:
    described = tiny.task("sim", "similarity", encoding="bi")
    loss = loss_sum(described, torch.tensor([[0.5], [1.0]]), torch.tensor([5.0, 2.5]))
    assert loss.item() == pytest.approx(0.25 + 0.25)


def test_a_batch_is_the_sum_of_its_rows() -> None:
    logits, labels = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0, 1, 2])
    parts = sum(loss_sum(tiny.task(), logits[i : i + 1], labels[i : i + 1]) for i in range(6))
    torch.testing.assert_close(loss_sum(tiny.task(), logits, labels), parts)


def test_balanced_weights_make_classes_count_alike() -> None:
    labels = torch.tensor([0] * 6 + [1] * 3 + [3])
    weights = balanced_weights(labels, 4)
    totals = torch.bincount(labels, minlength=4) * weights
    torch.testing.assert_close(totals[[0, 1, 3]], torch.full((3,), 10 / 3))
    assert weights[2] == 0
    assert weights[labels].mean().item() == pytest.approx(1)


def test_the_divergence_of_classes_is_kullback_leibler_both_ways() -> None:
    rng = torch.Generator().manual_seed(1)
    first, second = (torch.randn(6, 3, generator=rng) for _ in range(2))
    p, q = first.softmax(-1).double(), second.softmax(-1).double()
    want = ((p * (p / q).log()).sum() + (q * (q / p).log()).sum()) / 2
    assert divergence(tiny.task(), first, second).sum().item() == pytest.approx(want.item(), rel=1e-5)
    assert divergence(tiny.task(), first, first).sum().item() == 0


@pytest.mark.parametrize("encoding", ["cross", "bi"])
def test_the_divergence_of_similarities_is_their_squared_difference(encoding: Literal["cross", "bi"]) -> None:
    described = tiny.task("sim", "similarity", encoding=encoding)
    first, second = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [2.0]])
    apart = torch.sigmoid(torch.tensor(1.0)) - 0.5 if encoding == "cross" else torch.tensor(1.0)
    assert divergence(described, first, second).sum().item() == pytest.approx(apart.square().item())


def batch_of(learner: TaskLearner) -> tuple[Packed, Tensor]:
    split = learner.tokens["mood"].splits["train"]
    batch = gather(split, np.arange(12))
    assert batch.labels_B is not None
    return to_device(batch, tiny.MACHINE), torch.from_numpy(batch.labels_B)


def test_the_adversarial_shift_changes_predictions_more_than_random_ones_of_its_norm() -> None:
    learner = tiny.learner([tiny.tokens(tiny.task())], tiny.training())
    model, (batch, _) = learner.model.eval(), batch_of(learner)
    task, rng = tiny.task(), torch.Generator().manual_seed(2)
    embedded_TE = model.encoder.embed(batch, None).detach()
    scores_BC = model("mood", batch, None)

    def look(shift_TE: Tensor) -> Tensor:
        scores: Tensor = model("mood", batch, None, embedded_TE + shift_TE)
        return scores

    worst_TE = adversarial_shift(task, scores_BC, embedded_TE, look, rng)
    length_T = embedded_TE.norm(dim=-1)
    real = batch.layout.tokens  # without the filler
    torch.testing.assert_close(worst_TE[:real].norm(dim=-1), SHIFT_NORM * length_T[:real])
    assert all(p.grad is None for p in model.parameters()), "the search leaves no gradient in the weights"
    moved = divergence(task, scores_BC, look(worst_TE)).sum().item()
    for _ in range(20):
        other_TE = torch.randn(worst_TE.shape, generator=rng)
        other_TE *= (SHIFT_NORM * length_T / other_TE.norm(dim=-1))[:, None]
        assert moved > 3 * divergence(task, scores_BC, look(other_TE)).sum().item()


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("encoding", ["cross", "bi"])
def test_without_weight_and_dropout_it_is_the_plain_loss(how: str, encoding: Literal["cross", "bi"]) -> None:
    """Rows that occur twice in the batch count once."""
    described = tiny.task("mood", "similarity" if encoding == "bi" else "classification", encoding=encoding)
    still: dict[str, Any] = {"dropout": 0.0, "head_dropout": 0.0, "regularizer_weight": 0.0}
    losses = []
    for regularizer in (how, "none"):
        learner = tiny.learner([tiny.tokens(described)], tiny.training(**still, regularizer=regularizer))
        learner.model.train()
        losses.append([part for step in range(4) for part in learner.losses(0, step)])
    for found, plain in zip(*losses, strict=True):
        torch.testing.assert_close(found.loss, plain.loss)
        assert (found.rows, found.tokens) == (plain.rows, plain.tokens)


def test_r_drop_compares_the_two_views_of_each_row() -> None:
    """If one view of one row differs, the loss is the divergence of that row."""
    scores_2BC = torch.zeros(6, 3)
    scores_2BC[3, 1] = 2.0
    apart = r_drop_loss(tiny.task(), scores_2BC)
    torch.testing.assert_close(apart, divergence(tiny.task(), torch.zeros(1, 3), scores_2BC[3:4])[0])
    assert r_drop_loss(tiny.task(), scores_2BC, torch.tensor([True, False, True])) == 0, "that is no row"


def test_the_penalty_is_multiplied_by_its_weight() -> None:
    scores_2BC, labels_B = (
        torch.randn(6, 3, generator=torch.Generator().manual_seed(1)),
        torch.tensor([0, 0, 1, 1, 2, 2]),
    )
    losses = []
    for weight in (0.0, 1.0, 3.0):
        settings = tiny.training(regularizer="r_drop", regularizer_weight=weight)
        losses.append(tiny.learner([tiny.tokens(tiny.task())], settings).loss("mood", scores_2BC, labels_B))
    torch.testing.assert_close(losses[0], torch.nn.functional.cross_entropy(scores_2BC, labels_B, reduction="sum") / 2)
    torch.testing.assert_close((losses[2] - losses[0]) / 3, losses[1] - losses[0])


@pytest.mark.integration
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("kind", ["classification", "similarity"])
def test_it_learns_and_repeats(tmp_path: Path, how: str, kind: str) -> None:
    settings = tiny.training(epochs=6, regularizer=how)
    ends = []
    for name in ("first", "second"):
        learner = tiny.learner([tiny.tokens(tiny.task("mood", kind))], settings)
        with Resume(tmp_path / name, 1e9) as resume:
            assert tiny.trained(learner, settings, resume).best > 0.8
        ends.append({name: p.detach().clone() for name, p in learner.model.named_parameters()})
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
