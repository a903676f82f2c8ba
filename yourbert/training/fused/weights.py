"""A layer's weights in two pieces of memory: its matrices, with bf16 copies of the fp32 masters, and its vectors.

The parameters of the model become views of the masters, and the optimizer's state views of the moments, so whoever
reads or saves them (checkpoints, averages) sees what is always there. PyTorch's own AdamW goes on with the small tables
and the heads, and passes over what lies in a piece, whose gradient it is not shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from yourbert.model.encoder import Layer
from yourbert.training.fused.interface import Kernels

MATRICES = ("qkv", "out", "wide", "narrow")


@dataclass(frozen=True)
class Matrices:
    qkv: Tensor
    out: Tensor
    wide: Tensor
    narrow: Tensor


@dataclass(frozen=True)
class Vectors:
    """The biases of the products, and both norms, in the order of the kernels' sums."""

    last_weight: nn.Parameter
    last_shift: nn.Parameter
    narrow: nn.Parameter
    wide: nn.Parameter
    norm_weight: nn.Parameter
    norm_shift: nn.Parameter
    out: nn.Parameter
    qkv: nn.Parameter


class Seeds:
    """Three for each layer that asks, drawn for many at once."""

    AT_ONCE = 64

    def __init__(self) -> None:
        self._left: list[Tensor] = []

    def take(self, rng: torch.Generator | None, device: torch.device) -> Tensor:
        if not self._left:
            # Four a row: a kernel reads what begins at a multiple of 16 bytes.
            self._left = list(torch.randint(2**62, (self.AT_ONCE, 4), generator=rng, device=device).unbind())
        return self._left.pop()

    def forget(self) -> None:
        """What is left is of a step that is over."""
        self._left.clear()


class Piece:
    """N weights that lie one after the other and are moved together: masters, moments, and the gradient of a step.

    copy_N: the masters rounded to `dtype`; the masters themselves in fp32. gradient_N: None while nothing gave one.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], dtype: torch.dtype = torch.float32) -> None:
        self.parameters = parameters
        self.master_N = torch.cat([p.detach().flatten() for p in parameters])
        self.copy_N = self.master_N.to(dtype)
        self.mean_N, self.square_N = torch.zeros_like(self.master_N), torch.zeros_like(self.master_N)
        self.gradient_N: Tensor | None = None
        for p, view in zip(parameters, self.views(self.master_N), strict=True):
            p.data = view

    def views(self, flat_N: Tensor) -> list[Tensor]:
        """What belongs to each parameter, in its shape."""
        parts = torch.split(flat_N, [p.numel() for p in self.parameters])
        return [part.view_as(p) for part, p in zip(parts, self.parameters, strict=True)]

    def gradients(self) -> list[Tensor]:
        assert self.gradient_N is not None, "a backward pass came by"
        return self.views(self.gradient_N)

    def take(self) -> None:
        """Takes over the gradient of its only parameter, if autograd left one."""
        (p,) = self.parameters
        if p.grad is not None:
            self.gradient_N, p.grad = p.grad.coalesce() if p.grad.is_sparse else p.grad.flatten(), None

    def refresh(self) -> None:
        """After the masters were written by somebody else."""
        if self.copy_N is not self.master_N:
            self.copy_N.copy_(self.master_N)

    def follow(self, optimizer: torch.optim.AdamW, steps: Tensor) -> None:
        """The optimizer's state of these weights becomes a view of this one, and keeps what it held.

        steps: for each of the parameters a count of its steps.
        """
        views = zip(self.parameters, steps, self.views(self.mean_N), self.views(self.square_N), strict=True)
        for p, step, mean, square in views:
            own = {"step": step, "exp_avg": mean, "exp_avg_sq": square}
            for name, tensor in optimizer.state[p].items():
                own[name].copy_(tensor)
            optimizer.state[p] = own


class LayerWeights:
    """A layer's weights as the fused function uses them."""

    def __init__(self, layer: Layer, kernels: Kernels, dtype: torch.dtype, seeds: Seeds) -> None:
        self.seeds = seeds
        self.kernels, self.heads, self.p, self.eps = kernels, layer.heads, layer.p, layer.attention_norm.eps
        norm, last = layer.attention_norm, layer.output_norm
        self.vectors = Vectors(
            last.weight, last.bias, layer.narrow.bias, layer.wide.bias, norm.weight, norm.bias,
            layer.attention_out.bias, layer.qkv.bias,
        )  # fmt: skip
        linear = (layer.qkv, layer.attention_out, layer.wide, layer.narrow)
        self.large = Piece([part.get_parameter("weight") for part in linear], dtype)
        self.small = Piece(list(vars(self.vectors).values()))
        self.matrices = Matrices(*self.large.views(self.large.copy_N))
        # The products write their gradients here, in every step.
        self._gradient_N = torch.empty_like(self.large.copy_N)
        self._gradients = dict(zip(MATRICES, self.large.views(self._gradient_N), strict=True))
        self._learned: set[str] = set()

    def learn(self, name: str, dy_TO: Tensor, x_TI: Tensor) -> None:
        """The gradient of y = x w'; a step's further tasks add to it."""
        gradient = self._gradients[name]
        if name in self._learned:
            gradient.addmm_(dy_TO.mT, x_TI)
        else:
            torch.mm(dy_TO.mT, x_TI, out=gradient)
        self._learned.add(name)
        self.large.gradient_N = self._gradient_N

    def learn_vectors(self, sums: Tensor) -> None:
        self.small.gradient_N = sums if self.small.gradient_N is None else self.small.gradient_N + sums

    def forget(self) -> None:
        """A new step begins."""
        self._learned.clear()
        self.large.gradient_N = self.small.gradient_N = None
