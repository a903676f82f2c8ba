"""A layer of the encoder as one function with its backward written out, over kernels of either kind.

    x ─► qkv ─► attend ─► out ─► add, norm ─► wide ─► gelu ─► narrow ─► add, norm ─► z

The products read bf16 copies of the weights, and write the gradients of those into memory of the layer
(`yourbert/fused/weights.py`); autograd sees x and z alone. The gradients of vectors (biases, norms) are sums over rows:
each kernel leaves parts of them, which are added up at the end, all at once.

Shapes: T rows of a packed batch, S those that go on after the attention where not all do; E hidden width, F
feed-forward width; P parts of a sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from yourbert.attention import Layout

if TYPE_CHECKING:
    from yourbert.fused.weights import LayerWeights


# Of the embeddings: the tables of word pieces, positions and segments, and which row of each a token takes.
Tables = tuple[Tensor, Tensor, Tensor]
Places = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Draw:
    """Which elements are dropped: `dropped` of 65536, by the seed at `site`; the others are multiplied by `factor`."""

    seeds: Tensor
    site: int
    dropped: int
    factor: float


class Parts:
    """Four tables [P, columns] in one piece of memory, the columns of the layer's vectors in their order."""

    def __init__(self, counts: tuple[int, int, int, int], width: int, wide: int, device: torch.device) -> None:
        self.counts, self.width, self.wide = counts, width, wide
        self._widths = (3 * width, wide, 3 * width, 3 * width)
        self._ends = [0, *accumulate(count * own for count, own in zip(counts, self._widths, strict=True))]
        self.memory = torch.empty(self._ends[-1], device=device)

    @property
    def columns(self) -> int:
        return sum(self._widths)

    def tables(self) -> list[Tensor]:
        flat = [self.memory[start:end] for start, end in pairwise(self._ends)]
        return [table.view(-1, own) for table, own in zip(flat, self._widths, strict=True)]


class Kernels(Protocol):
    """What `yourbert/fused/plain.py` says, by whoever computes it."""

    def parts(self, last_rows: int, sequences: int, longest: int, width: int, wide: int, like: Tensor) -> Parts: ...
    def attend(
        self, qkv_T3E: Tensor, bias_3E: Tensor, bounds_S1: Tensor, longest: int, asked: int, heads: int, draw: Draw
    ) -> tuple[Tensor, Tensor]: ...
    def attend_back(
        self, dout_TE: Tensor, qkv_T3E: Tensor, bias_3E: Tensor, bounds_S1: Tensor, longest: int, asked: int,
        out_TE: Tensor, logsum_HT: Tensor, draw: Draw, parts_P3E: Tensor,
    ) -> Tensor: ...  # fmt: skip
    def add_norm(
        self, x_TE: Tensor, y_TE: Tensor, bias_E: Tensor, weight_E: Tensor, shift_E: Tensor, eps: float, draw: Draw
    ) -> tuple[Tensor, Tensor, Tensor]: ...
    def add_norm_back(
        self, dout_TE: Tensor, sum_TE: Tensor, stats_T2: Tensor, weight_E: Tensor, draw: Draw, parts_P3E: Tensor
    ) -> tuple[Tensor, Tensor]: ...
    def gelu(self, x_TF: Tensor, bias_F: Tensor) -> tuple[Tensor, Tensor]: ...
    def gelu_back(self, dout_TF: Tensor, kept_TF: Tensor, bias_F: Tensor, parts_PF: Tensor) -> Tensor: ...
    def sums(self, found: Parts) -> Tensor: ...
    def embed(
        self, tables: Tables, weight_E: Tensor, shift_E: Tensor, places: Places, draw: Draw, eps: float,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]: ...  # fmt: skip
    def embed_back(
        self, dout_TE: Tensor, tables: Tables, weight_E: Tensor, places: Places, draw: Draw, stats_T2: Tensor
    ) -> tuple[Tensor, Tensor]: ...
    def position_sums(self, dtotal_TE: Tensor, bounds_S1: Tensor, out_E: Tensor) -> None: ...
    def word_gradient(self, dtotal_TE: Tensor, words_T: Tensor, rows: int, pad: int) -> Tensor: ...
    def norm(self, gradients: list[Tensor]) -> Tensor: ...
    def adamw(
        self, master_N: Tensor, gradient_N: Tensor, mean_N: Tensor, square_N: Tensor, copy_N: Tensor | None, lr: Tensor,
        scale: Tensor, stopped: Tensor, corrections: Tensor, betas: tuple[float, float], eps: float, decay: float,
    ) -> None: ...  # fmt: skip


class FusedLayer(torch.autograd.Function):
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
