"""The interface of the kernels, which PyTorch operations, Triton and C implement.

Shapes: T rows of a packed batch, S sequences or their first rows, E hidden width, F feed-forward width, H heads, P
partial sums, N weights of a buffer.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Protocol

import torch
from torch import Tensor

from yourbert.training.fused.weights import ParameterBuffer

# The length by which the dropout draws of attention are indexed is the longest sequence rounded up to this step. So a
# GPU and a CPU drop the same elements, and one compiled program serves many batches.
SPAN_STEP = 16
# For the embeddings: the tables of word pieces, positions and segments, and each token's row in each.
Tables = tuple[Tensor, Tensor, Tensor]
Places = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class DropoutSeed:
    """Determines the dropped elements: `dropped` of 65536, by the seed at `site`; others are multiplied by `factor`."""

    seeds: Tensor
    site: int
    dropped: int
    factor: float


class PartialSums:
    """Four tables [P, columns] of partial sums in one buffer; the columns are those of the layer's `Vectors`."""

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
    """The functions of `yourbert/training/fused/plain.py`, which documents them."""

    def parts(
        self, last_rows: int, sequences: int, longest: int, width: int, wide: int, like: Tensor
    ) -> PartialSums: ...
    def attend(
        self,
        qkv_T3E: Tensor,
        bias_3E: Tensor,
        bounds_S1: Tensor,
        longest: int,
        asked: int,
        heads: int,
        draw: DropoutSeed,
    ) -> tuple[Tensor, Tensor]: ...
    def attention_backward(
        self, dout_TE: Tensor, qkv_T3E: Tensor, bias_3E: Tensor, bounds_S1: Tensor, longest: int, asked: int,
        out_TE: Tensor, logsum_HT: Tensor, draw: DropoutSeed, parts_P3E: Tensor,
    ) -> Tensor: ...  # fmt: skip
    def add_norm(
        self,
        x_TE: Tensor,
        y_TE: Tensor,
        bias_E: Tensor,
        weight_E: Tensor,
        shift_E: Tensor,
        eps: float,
        draw: DropoutSeed,
    ) -> tuple[Tensor, Tensor, Tensor]: ...
    def add_norm_backward(
        self, dout_TE: Tensor, sum_TE: Tensor, stats_T2: Tensor, weight_E: Tensor, draw: DropoutSeed, parts_P3E: Tensor
    ) -> tuple[Tensor, Tensor]: ...
    def gelu(self, x_TF: Tensor, bias_F: Tensor) -> tuple[Tensor, Tensor]: ...
    def gelu_backward(self, dout_TF: Tensor, kept_TF: Tensor, bias_F: Tensor, parts_PF: Tensor) -> Tensor: ...
    def sums(self, found: PartialSums) -> Tensor: ...
    def embed(
        self, tables: Tables, weight_E: Tensor, shift_E: Tensor, places: Places, draw: DropoutSeed, eps: float,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]: ...  # fmt: skip
    def embed_backward(
        self, dout_TE: Tensor, tables: Tables, weight_E: Tensor, places: Places, draw: DropoutSeed, stats_T2: Tensor
    ) -> tuple[Tensor, Tensor]: ...
    def position_sums(self, dtotal_TE: Tensor, bounds_S1: Tensor, out_E: Tensor) -> None: ...
    def word_gradient(self, dtotal_TE: Tensor, words_T: Tensor, rows: int, pad: int) -> Tensor: ...
    def norm(self, gradients: list[Tensor]) -> Tensor: ...
    def adamw(
        self, buffer: ParameterBuffer, lr: Tensor, scale: Tensor, stopped: Tensor, corrections: Tensor,
        betas: tuple[float, float], eps: float, decay: float,
    ) -> None: ...  # fmt: skip
