"""The optimizer: which weights decay, and the learning rate as a pure function of the step.

AdamW (Loshchilov and Hutter 2019). Matrices decay, vectors (biases, LayerNorm) do not.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor, nn

from yourbert.config.schema import Training


def decay_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, object]]:
    """Two parameter groups: matrices with weight decay, vectors without."""
    learning = [p for p in parameters if p.requires_grad]
    matrices = [p for p in learning if p.ndim >= 2]
    vectors = [p for p in learning if p.ndim < 2]
    assert len({id(p) for p in matrices + vectors}) == len(learning), "a parameter is in two groups"
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]


class FusedWeights(Protocol):
    """The weights of fused layers, which fused kernels update (`yourbert/training/fused/fusion.py`).

    They stay in the optimizer's groups, and it skips them, because autograd leaves them no gradient.
    """

    def sync_from_master(self) -> None: ...
    def holds(self, p: nn.Parameter) -> bool: ...
    def norm(self) -> Tensor: ...
    def optimizer_step(self, scale: Tensor, stopped: Tensor) -> None: ...
    def zero_grad(self) -> None: ...


class AdamW(torch.optim.AdamW):
    """PyTorch's AdamW with its methods unwrapped.

    PyTorch wraps them for its compiler, and the first call would load it (2 s); nothing is compiled here.
    """

    add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.AdamW.zero_grad)
    grad_scale: Tensor
    found_inf: Tensor

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # without a closure
        inspect.unwrap(torch.optim.AdamW.step)(self)


def adamw(parameters: Iterable[nn.Parameter], weight_decay: float) -> AdamW:
    groups = [group for group in decay_groups(parameters, weight_decay) if group["params"]]
    return AdamW(groups, lr=0.0, betas=(0.9, 0.999), eps=1e-8, fused=True)


def bind_lr(optimizer: torch.optim.AdamW, lr: Tensor) -> None:
    """Reads the learning rate from the tensor `lr`, so that a captured step can be replayed.

    The moments are allocated here: allocated in the first step, they would be reset by each replay of it.
    """
    for group in optimizer.param_groups:
        group["lr"], group["capturable"] = lr, lr.is_cuda
        for p in group["params"]:
            if not optimizer.state.get(p):
                step = torch.zeros((), dtype=torch.float32, device=p.device)
                optimizer.state[p] = {"step": step, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
    # Avoids a warning about the uncaptured warm-up steps.
    optimizer._warned_capturable_if_run_uncaptured = True


def rate(step: int, steps: int, settings: Training) -> float:
    """The learning rate of step `step` (from 0) of `steps`: linear warmup, then constant or linear decay to 0."""
    warmup = round(settings.warmup_ratio * steps)
    if step < warmup:
        return settings.lr * (step + 1) / warmup
    if settings.schedule == "constant":
        return settings.lr
    return settings.lr * (steps - step) / max(1, steps - warmup)


def decay_after(steps_done: int, steps: int, settings: Training) -> float:
    """The factor by which weight decay alone shrinks a matrix in the first `steps_done` of `steps` steps."""
    return math.prod(1 - rate(step, steps, settings) * settings.weight_decay for step in range(steps_done))


def optimizer_step(
    optimizer: AdamW,
    parameters: Iterable[nn.Parameter],
    max_grad_norm: float,
    stopped: Tensor | None = None,
    fusion: FusedWeights | None = None,
) -> Tensor:
    """One optimizer step with the gradients clipped to `max_grad_norm` (0: no clipping); returns their norm.

    No weight changes if that norm is not finite. stopped: a flag on the device that such a norm sets; while it is set,
    no later step changes anything. fusion: the weights of fused layers, which count in the norm and are updated, too.
    """
    others = [p.grad for p in parameters if p.grad is not None and not (fusion and fusion.holds(p))]
    norm = nn.utils.get_total_norm(others, foreach=True)
    if fusion:
        norm = torch.linalg.vector_norm(torch.stack([norm, fusion.norm()]))
    # Clipping and skipping use grad_scale and found_inf, which a fused AdamW reads on the device: gradients are not
    # rewritten, and the host does not wait for the norm.
    scale = (norm / max_grad_norm).clamp(min=1.0) if max_grad_norm else torch.ones_like(norm)
    stopped = ~torch.isfinite(norm) if stopped is None else stopped.logical_or_(~torch.isfinite(norm))
    optimizer.grad_scale, optimizer.found_inf = scale, stopped.float()
    if fusion:
        fusion.optimizer_step(optimizer.grad_scale, optimizer.found_inf)
    optimizer.step()
    clear_gradients(optimizer, fusion)
    return norm


def clear_gradients(optimizer: AdamW, fusion: FusedWeights | None) -> None:
    """Clears all gradients, after a step or an interrupted one."""
    optimizer.zero_grad(set_to_none=True)
    if fusion:
        fusion.zero_grad()
