"""Losses against their definitions; optimizer groups and the schedule against a table."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tests.support import tiny
from yourbert.finetuning.losses import balanced_weights, loss_sum
from yourbert.training.optimizer import adamw, decay_groups, move, rate


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


def test_every_learning_parameter_is_in_one_group() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    model[2].bias.requires_grad_(False)
    matrices, vectors = decay_groups(model.parameters(), 0.01)
    assert [p.ndim for p in matrices["params"]] == [2, 2]  # type: ignore[attr-defined]
    assert [p.ndim for p in vectors["params"]] == [1, 1, 1]  # type: ignore[attr-defined]
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.01, 0.0)


def test_schedule() -> None:
    settings = tiny.training(lr=1.0, warmup=0.2)
    linear = [rate(step, 10, settings) for step in range(10)]
    assert linear == pytest.approx([0.5, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])
    constant = tiny.training(lr=0.5, warmup=0.0, schedule="constant")
    assert [rate(step, 4, constant) for step in range(4)] == [0.5] * 4
    assert all(rate(step, 7, tiny.training(warmup=0.9)) > 0 for step in range(7))


def twins() -> list[list[nn.Parameter]]:
    """Two times the same two parameters."""
    made = []
    for _ in range(2):
        rng = torch.Generator().manual_seed(3)
        made.append([nn.Parameter(torch.randn(shape, generator=rng)) for shape in ((40, 7), (5,))])
    return made


@pytest.mark.parametrize("clip", [0.0, 0.5, 1e6])
def test_a_move_is_a_clipped_step_of_adamw(clip: float) -> None:
    ours, theirs = twins()
    fused, plain = adamw(ours, 0.01), torch.optim.AdamW(decay_groups(theirs, 0.01), lr=0.0, foreach=False)
    rng = torch.Generator().manual_seed(4)
    for step in range(6):
        for optimizer in (fused, plain):
            for group in optimizer.param_groups:
                group["lr"] = 0.1 / (step + 1)
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=rng)
            b.grad = a.grad.clone()
        norm = nn.utils.clip_grad_norm_(theirs, clip or float("inf"))
        torch.testing.assert_close(move(fused, ours, clip), norm)
        plain.step()
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_a_gradient_that_is_not_finite_moves_nothing() -> None:
    ours, before = twins()
    optimizer = adamw(ours, 0.01)
    optimizer.param_groups[0]["lr"] = 0.1
    for p in ours:
        p.grad = torch.full_like(p, float("nan"))
    assert not math.isfinite(move(optimizer, ours, 1.0))
    assert all(torch.equal(a, b) for a, b in zip(ours, before, strict=True))
    assert all(float(optimizer.state[p]["step"]) == 0 for p in ours)
