"""Optimizer groups and the schedule against a table; what a step moves, and when it moves nothing."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tests.support import tiny
from yourbert.training.optimizer import adamw, bind_lr, decay_groups, optimizer_step, rate


def test_every_learning_parameter_is_in_one_group() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    model[2].bias.requires_grad_(False)
    matrices, vectors = decay_groups(model.parameters(), 0.01)
    assert [p.ndim for p in matrices["params"]] == [2, 2]  # type: ignore[attr-defined]
    assert [p.ndim for p in vectors["params"]] == [1, 1, 1]  # type: ignore[attr-defined]
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.01, 0.0)


def test_schedule() -> None:
    settings = tiny.training(lr=1.0, warmup_ratio=0.2)
    linear = [rate(step, 10, settings) for step in range(10)]
    assert linear == pytest.approx([0.5, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])
    constant = tiny.training(lr=0.5, warmup_ratio=0.0, schedule="constant")
    assert [rate(step, 4, constant) for step in range(4)] == [0.5] * 4
    assert all(rate(step, 7, tiny.training(warmup_ratio=0.9)) > 0 for step in range(7))


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
        torch.testing.assert_close(optimizer_step(fused, ours, clip), norm)
        plain.step()
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_a_gradient_that_is_not_finite_moves_nothing() -> None:
    ours, before = twins()
    optimizer = adamw(ours, 0.01)
    optimizer.param_groups[0]["lr"] = 0.1
    for p in ours:
        p.grad = torch.full_like(p, float("nan"))
    assert not math.isfinite(optimizer_step(optimizer, ours, 1.0))
    assert all(torch.equal(a, b) for a, b in zip(ours, before, strict=True))
    assert all(float(optimizer.state[p]["step"]) == 0 for p in ours)


def test_a_rate_in_a_tensor_moves_as_a_number_does() -> None:
    rng = torch.Generator().manual_seed(1)
    start = [torch.randn(shape, generator=rng) for shape in ((5, 3), (3,), (4, 4))]
    gradients = [[torch.randn(p.shape, generator=rng) for p in start] for _ in range(10)]
    ended = []
    for tensor in (False, True):
        parameters = [nn.Parameter(p.clone()) for p in start]
        optimizer, lr = adamw(parameters, 0.1), torch.zeros(())
        if tensor:
            bind_lr(optimizer, lr)
        for step, drawn in enumerate(gradients):
            for p, gradient in zip(parameters, drawn, strict=True):
                p.grad = gradient.clone()
            lr.fill_(1e-2 / (step + 1))
            if not tensor:
                for group in optimizer.param_groups:
                    group["lr"] = 1e-2 / (step + 1)
            optimizer_step(optimizer, parameters, max_grad_norm=1.0)
        ended.append(parameters)
    for one, other in zip(*ended, strict=True):
        torch.testing.assert_close(one, other, atol=1e-7, rtol=1e-6)


def test_the_moments_begin_where_the_optimizer_would_have_begun_them() -> None:
    parameters = [nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(4))]
    lazy, eager = adamw(parameters, 0.1), adamw(parameters, 0.1)
    for p in parameters:
        p.grad = torch.zeros_like(p)
    lazy.step()
    bind_lr(eager, torch.zeros(()))
    for p in parameters:
        assert lazy.state[p].keys() == eager.state[p].keys()
        for key, value in eager.state[p].items():
            assert value.dtype == lazy.state[p][key].dtype and value.shape == lazy.state[p][key].shape
            assert not value.any()
    assert decay_groups(parameters, 0.1)[0]["params"] == eager.param_groups[0]["params"]


def test_once_stopped_nothing_moves_any_more() -> None:
    parameter, stopped = nn.Parameter(torch.ones(3)), torch.tensor(False)
    optimizer = adamw([parameter], 0.1)
    bind_lr(optimizer, torch.tensor(0.1))
    moved = []
    for gradient in (1.0, torch.nan, 1.0):
        before = parameter.detach().clone()
        parameter.grad = torch.full((3,), gradient)
        optimizer_step(optimizer, [parameter], 1.0, stopped)
        moved.append(not torch.equal(before, parameter))
    assert moved == [True, False, False] and stopped
    assert optimizer.state[parameter]["step"] == 1
