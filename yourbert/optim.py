"""The optimizer: which weights decay, and the learning rate as a pure function of the step.

AdamW (Loshchilov and Hutter 2019). Matrices decay, vectors (biases, LayerNorm) do not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import nn


def decay_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, object]]:
    """Two groups that hold every parameter that learns exactly once."""
    learning = [p for p in parameters if p.requires_grad]
    matrices = [p for p in learning if p.ndim >= 2]
    vectors = [p for p in learning if p.ndim < 2]
    assert len({id(p) for p in matrices + vectors}) == len(learning), "a parameter stands in two groups"
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]


def adamw(parameters: Iterable[nn.Parameter], weight_decay: float) -> torch.optim.AdamW:
    groups = [group for group in decay_groups(parameters, weight_decay) if group["params"]]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.999), eps=1e-8, fused=True)


def rate(step: int, steps: int, peak: float, warmup: float, schedule: Literal["linear", "constant"]) -> float:
    """The learning rate of step `step` (from 0) of `steps`: a linear climb to `peak`, then constant or down to 0."""
    climb = round(warmup * steps)
    if step < climb:
        return peak * (step + 1) / climb
    if schedule == "constant":
        return peak
    return peak * (steps - step) / max(1, steps - climb)
