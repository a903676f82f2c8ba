"""A layer of the encoder as one autograd function with a hand-written backward, for any implementation of the kernels.

    x ─► qkv ─► attend ─► out ─► add, norm ─► wide ─► gelu ─► narrow ─► add, norm ─► z

The matrix products read bf16 copies of the weights and write the weight gradients into buffers of the layer
(`yourbert/training/fused/weights.py`); autograd sees only x and z. The gradients of vectors (biases, norms) are sums
over rows: each kernel writes partial sums, and one kernel adds all of them up at the end.

Shapes: T rows of a packed batch, S rows after the attention if only first tokens are needed; E hidden width, F
feed-forward width; P partial sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from yourbert.model.attention import Layout
from yourbert.model.encoder import Layer
from yourbert.training.fused.interface import DropoutSeed, Kernels
from yourbert.training.fused.weights import ParameterBuffer, Seeds

MATRICES = ("qkv", "out", "intermediate", "output")


@dataclass(frozen=True)
class Matrices:
    qkv: Tensor
    out: Tensor
    intermediate: Tensor
    output: Tensor


@dataclass(frozen=True)
class Vectors:
    """The biases of the products and the weights of both norms, in the order of `PartialSums`."""

    last_weight: nn.Parameter
    last_shift: nn.Parameter
    output: nn.Parameter
    intermediate: nn.Parameter
    norm_weight: nn.Parameter
    norm_shift: nn.Parameter
    out: nn.Parameter
    qkv: nn.Parameter


class LayerFunction(torch.autograd.Function):
    """z = layer(x). rows_S: if given, the rows that are computed after the attention, each sequence's first token."""

    @staticmethod
    def forward(
        ctx: Any,
        x_TE: Tensor,
        own: FusedLayer,
        layout: Layout,
        rows_S: Tensor | None,
        draws: tuple[DropoutSeed, DropoutSeed, DropoutSeed],
    ) -> Tensor:
        kernels, w, v = own.kernels, own.matrices, own.vectors
        # The product has no bias: the next kernel reads every element anyway, and adds the bias there.
        qkv_T3E = x_TE @ w.qkv.mT  # [T, E] -> [T, 3 E]
        asked = layout.longest if rows_S is None else 1
        out_TE, logsum_HT = kernels.attend(qkv_T3E, v.qkv, layout.bounds_S1, layout.longest, asked, own.heads, draws[0])
        out_TE[layout.tokens :].zero_()  # filler rows belong to no sequence, so no kernel has written them
        goes_on_TE, read_TE = x_TE, out_TE
        if rows_S is not None:
            # The last layer with "cls" pooling: only first tokens are needed from here on, [T, E] -> [S, E].
            goes_on_TE, read_TE = x_TE.index_select(0, rows_S), out_TE.index_select(0, rows_S)
        between_TE, sum_TE, stats_T2 = kernels.add_norm(
            goes_on_TE, read_TE @ w.out.mT, v.out, v.norm_weight, v.norm_shift, own.eps, draws[1]
        )
        active_TF, kept_TF = kernels.gelu(between_TE @ w.intermediate.mT, v.intermediate)  # [T, E] -> [T, F]
        z_TE, last_sum_TE, last_stats_T2 = kernels.add_norm(
            between_TE, active_TF @ w.output.mT, v.output, v.last_weight, v.last_shift, own.eps, draws[2]
        )
        ctx.facts = own, layout, draws, asked
        ctx.save_for_backward(
            x_TE, qkv_T3E, out_TE, logsum_HT, read_TE, sum_TE, stats_T2, between_TE, kept_TF, active_TF, last_sum_TE,
            last_stats_T2, rows_S,
        )  # fmt: skip
        return z_TE

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        own, layout, draws, asked = ctx.facts
        (
            x_TE, qkv_T3E, out_TE, logsum_HT, read_TE, sum_TE, stats_T2, between_TE, kept_TF, active_TF, last_sum_TE,
            last_stats_T2, rows_S,
        ) = ctx.saved_tensors  # fmt: skip
        kernels, w, v = own.kernels, own.matrices, own.vectors
        width, wide = x_TE.shape[1], active_TF.shape[1]
        parts = kernels.parts(len(sum_TE), layout.sequences, layout.longest, width, wide, x_TE)
        last, middle, first, before = parts.tables()
        # From the last operation to the first. `accumulate_gradient` computes dy' x; products with `w` give dx.
        dbetween_TE, dnarrow_TE = kernels.add_norm_backward(
            gradients[0].contiguous(), last_sum_TE, last_stats_T2, v.last_weight, draws[2], last
        )
        own.accumulate_gradient("output", dnarrow_TE, active_TF)
        dwide_TF = kernels.gelu_backward(dnarrow_TE @ w.output, kept_TF, v.intermediate, middle)
        own.accumulate_gradient("intermediate", dwide_TF, between_TE)
        dbetween_TE.addmm_(dwide_TF, w.intermediate)  # the residual path plus the feed-forward path
        dx_TE, dproduct_TE = kernels.add_norm_backward(dbetween_TE, sum_TE, stats_T2, v.norm_weight, draws[1], first)
        own.accumulate_gradient("out", dproduct_TE, read_TE)
        dout_TE = dproduct_TE @ w.out
        if rows_S is not None:
            # [S, E] back to [T, E]; rows that were not computed have no gradient.
            dout_TE = torch.zeros_like(out_TE).index_copy_(0, rows_S, dout_TE)
            dx_TE = torch.zeros_like(x_TE).index_copy_(0, rows_S, dx_TE)
        dqkv_T3E = kernels.attention_backward(
            dout_TE, qkv_T3E, v.qkv, layout.bounds_S1, layout.longest, asked, out_TE, logsum_HT, draws[0], before
        )
        dqkv_T3E[layout.tokens :].zero_()
        own.accumulate_gradient("qkv", dqkv_T3E, x_TE)
        dx_TE.addmm_(dqkv_T3E, w.qkv)  # the residual path plus the attention path
        own.accumulate_vector_gradients(kernels.sums(parts))
        return dx_TE, None, None, None, None


class FusedLayer:
    """Replaces the forward of `Layer` during training; has its weights in two buffers, matrices and vectors."""

    def __init__(self, layer: Layer, kernels: Kernels, dtype: torch.dtype, seeds: Seeds) -> None:
        self.seeds = seeds
        self.kernels, self.heads, self.p, self.eps = kernels, layer.heads, layer.p, layer.attention_norm.eps
        norm, last = layer.attention_norm, layer.output_norm
        self.vectors = Vectors(
            last.weight, last.bias, layer.output.bias, layer.intermediate.bias, norm.weight, norm.bias,
            layer.attention_out.bias, layer.qkv.bias,
        )  # fmt: skip
        linear = (layer.qkv, layer.attention_out, layer.intermediate, layer.output)
        self.large = ParameterBuffer([part.get_parameter("weight") for part in linear], dtype)
        self.small = ParameterBuffer(list(vars(self.vectors).values()))
        self.matrices = Matrices(*self.large.views(self.large.copy_N))
        # In every step the products write the weight gradients here.
        self._gradient_N = torch.empty_like(self.large.copy_N)
        self._gradients = dict(zip(MATRICES, self.large.views(self._gradient_N), strict=True))
        self._accumulated: set[str] = set()

    def accumulate_gradient(self, name: str, dy_TO: Tensor, x_TI: Tensor) -> None:
        """Computes the weight gradient of y = x w'; adds to it if the step has several tasks."""
        # Written directly into the buffer that AdamW reads: nothing is allocated, and nothing is copied afterwards.
        gradient = self._gradients[name]
        if name in self._accumulated:
            gradient.addmm_(dy_TO.mT, x_TI)
        else:
            torch.mm(dy_TO.mT, x_TI, out=gradient)
        self._accumulated.add(name)
        self.large.gradient_N = self._gradient_N

    def accumulate_vector_gradients(self, sums: Tensor) -> None:
        self.small.gradient_N = sums if self.small.gradient_N is None else self.small.gradient_N + sums

    def clear(self) -> None:
        """Clears the gradients before a new step."""
        self._accumulated.clear()
        self.large.gradient_N = self.small.gradient_N = None

    def __call__(self, x_TE: Tensor, layout: Layout, rng: torch.Generator | None, rows_S: Tensor | None) -> Tensor:
        dropped = round(self.p * 65536)
        seeds = self.seeds.next_seed(rng, x_TE.device) if dropped else layout.starts_S
        return self.apply(x_TE, layout, seeds, dropped, rows_S)

    def apply(self, x_TE: Tensor, layout: Layout, seeds: Tensor, dropped: int, rows_S: Tensor | None) -> Tensor:
        """The layer's output, with dropout of `dropped` / 65536 by three seeds."""
        draws = tuple(DropoutSeed(seeds, site, dropped, 65536 / (65536 - dropped)) for site in range(3))
        # Above a frozen layer x needs no gradient, but autograd must still call this backward for the weights.
        x_TE = x_TE if x_TE.requires_grad else x_TE.detach().requires_grad_()
        z_TE: Tensor = LayerFunction.apply(x_TE, self, layout, rows_S, draws)  # type: ignore[no-untyped-call]
        return z_TE
