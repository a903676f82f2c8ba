"""Buffers with the weights of fused layers, their moments and gradients; the seeds of their dropout.

Parameters and optimizer state become views into these buffers, so checkpoints need no special case. PyTorch's AdamW
updates the small tables and the heads; it skips the weights in buffers, because those parameters have no `grad`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Seeds:
    """Dropout seeds, three per call, drawn from the generator for many calls at once."""

    AT_ONCE = 64

    def __init__(self) -> None:
        self._left: list[Tensor] = []

    def next_seed(self, rng: torch.Generator | None, device: torch.device) -> Tensor:
        if not self._left:
            # Rows of four, because kernels read from multiples of 16 bytes.
            self._left = list(torch.randint(2**62, (self.AT_ONCE, 4), generator=rng, device=device).unbind())
        return self._left.pop()

    def reset(self) -> None:
        """Discards the seeds that are left over from a step."""
        self._left.clear()


class ParameterBuffer:
    """N weights in one buffer, updated by one kernel call: masters, moments, and the gradient of a step.

    copy_N: the masters rounded to `dtype`, which the products read; the masters themselves for fp32. gradient_N: None
    until a backward pass has written it. met_U: for a table with sparse gradients, which of its rows have moments; None
    until the first step.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], dtype: torch.dtype = torch.float32) -> None:
        self.parameters = parameters
        self.master_N = torch.cat([p.detach().flatten() for p in parameters])
        self.copy_N = self.master_N.to(dtype)
        self.mean_N, self.square_N = torch.zeros_like(self.master_N), torch.zeros_like(self.master_N)
        self.gradient_N: Tensor | None = None
        self.met_U: Tensor | None = None
        # From here on the parameters are views of the buffer.
        for p, view in zip(parameters, self.views(self.master_N), strict=True):
            p.data = view

    def views(self, flat_N: Tensor) -> list[Tensor]:
        """The part of a buffer that belongs to each parameter, in its shape."""
        parts = torch.split(flat_N, [p.numel() for p in self.parameters])
        return [part.view_as(p) for part, p in zip(parts, self.parameters, strict=True)]

    @property
    def rounded_N(self) -> Tensor | None:
        """The copy that a step must update; None for fp32."""
        return None if self.copy_N is self.master_N else self.copy_N

    def gradients(self) -> list[Tensor]:
        assert self.gradient_N is not None, "a backward pass has run"
        return self.views(self.gradient_N)

    def claim_gradients(self) -> None:
        """Takes the gradient of its only parameter from autograd, if there is one."""
        (p,) = self.parameters
        if p.grad is not None:
            self.gradient_N, p.grad = p.grad.coalesce() if p.grad.is_sparse else p.grad.flatten(), None

    def sync_from_master(self) -> None:
        """Updates the copy after other code has written the masters."""
        if self.rounded_N is not None:
            self.rounded_N.copy_(self.master_N)

    def bind_optimizer(self, optimizer: torch.optim.AdamW, steps: Tensor) -> None:
        """Makes the optimizer's state of these weights a view of this buffer, with the same values.

        steps: the step count of each parameter.
        """
        views = zip(self.parameters, steps, self.views(self.mean_N), self.views(self.square_N), strict=True)
        for p, step, mean, square in views:
            own = {"step": step, "exp_avg": mean, "exp_avg_sq": square}
            for name, tensor in optimizer.state[p].items():
                own[name].copy_(tensor)
            optimizer.state[p] = own
