"""A layer of the encoder as one function with its backward written out, over kernels of either kind.

    x ─► qkv ─► attend ─► out ─► add, norm ─► wide ─► gelu ─► narrow ─► add, norm ─► z

The products read bf16 copies of the weights, and write the gradients of those into memory of the layer
(`yourbert/training/fused/weights.py`); autograd sees x and z alone. The gradients of vectors (biases, norms) are sums
over rows: each kernel leaves parts of them, which are added up at the end, all at once.

Shapes: T rows of a packed batch, S those that go on after the attention where not all do; E hidden width, F
feed-forward width; P parts of a sum.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from yourbert.model.attention import Layout
from yourbert.training.fused.interface import Draw
from yourbert.training.fused.weights import LayerWeights


class LayerFunction(torch.autograd.Function):
    """z = layer(x); with `rows_S`, the first row of each sequence, only those go on after the attention."""

    @staticmethod
    def forward(
        ctx: Any,
        x_TE: Tensor,
        own: LayerWeights,
        layout: Layout,
        rows_S: Tensor | None,
        draws: tuple[Draw, Draw, Draw],
    ) -> Tensor:
        kernels, w, v = own.kernels, own.matrices, own.vectors
        qkv_T3E = x_TE @ w.qkv.mT
        asked = layout.longest if rows_S is None else 1
        out_TE, logsum_HT = kernels.attend(qkv_T3E, v.qkv, layout.bounds_S1, layout.longest, asked, own.heads, draws[0])
        out_TE[layout.tokens :].zero_()  # filler
        goes_on_TE, read_TE = x_TE, out_TE
        if rows_S is not None:
            goes_on_TE, read_TE = x_TE.index_select(0, rows_S), out_TE.index_select(0, rows_S)
        between_TE, sum_TE, stats_T2 = kernels.add_norm(
            goes_on_TE, read_TE @ w.out.mT, v.out, v.norm_weight, v.norm_shift, own.eps, draws[1]
        )
        active_TF, kept_TF = kernels.gelu(between_TE @ w.wide.mT, v.wide)
        z_TE, last_sum_TE, last_stats_T2 = kernels.add_norm(
            between_TE, active_TF @ w.narrow.mT, v.narrow, v.last_weight, v.last_shift, own.eps, draws[2]
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
        dbetween_TE, dnarrow_TE = kernels.add_norm_back(
            gradients[0].contiguous(), last_sum_TE, last_stats_T2, v.last_weight, draws[2], last
        )
        own.learn("narrow", dnarrow_TE, active_TF)
        dwide_TF = kernels.gelu_back(dnarrow_TE @ w.narrow, kept_TF, v.wide, middle)
        own.learn("wide", dwide_TF, between_TE)
        dbetween_TE.addmm_(dwide_TF, w.wide)
        dx_TE, dproduct_TE = kernels.add_norm_back(dbetween_TE, sum_TE, stats_T2, v.norm_weight, draws[1], first)
        own.learn("out", dproduct_TE, read_TE)
        dout_TE = dproduct_TE @ w.out
        if rows_S is not None:
            dout_TE = torch.zeros_like(out_TE).index_copy_(0, rows_S, dout_TE)
            dx_TE = torch.zeros_like(x_TE).index_copy_(0, rows_S, dx_TE)
        dqkv_T3E = kernels.attend_back(
            dout_TE, qkv_T3E, v.qkv, layout.bounds_S1, layout.longest, asked, out_TE, logsum_HT, draws[0], before
        )
        dqkv_T3E[layout.tokens :].zero_()
        own.learn("qkv", dqkv_T3E, x_TE)
        dx_TE.addmm_(dqkv_T3E, w.qkv)
        own.learn_vectors(kernels.sums(parts))
        return dx_TE, None, None, None, None


class FusedLayer(LayerWeights):
    """Computes a layer with its fused weights; called as the layer is."""

    def __call__(self, x_TE: Tensor, layout: Layout, rng: torch.Generator | None, rows_S: Tensor | None) -> Tensor:
        dropped = round(self.p * 65536)
        seeds = self.seeds.take(rng, x_TE.device) if dropped else layout.starts_S
        return self.apply(x_TE, layout, seeds, dropped, rows_S)

    def apply(self, x_TE: Tensor, layout: Layout, seeds: Tensor, dropped: int, rows_S: Tensor | None) -> Tensor:
        """With `dropped` of 65536 elements dropped, by three seeds."""
        draws = tuple(Draw(seeds, site, dropped, 65536 / (65536 - dropped)) for site in range(3))
        # Below a frozen layer nothing asks for a gradient; the weights of this one still learn.
        x_TE = x_TE if x_TE.requires_grad else x_TE.detach().requires_grad_()
        z_TE: Tensor = LayerFunction.apply(x_TE, self, layout, rows_S, draws)  # type: ignore[no-untyped-call]
        return z_TE
