"""The embeddings as one autograd function with a hand-written backward, for any implementation of the kernels.

Kernels sum the gradients of positions over the sequences, and those of segments over the rows; only the gradient of the
word table is computed by PyTorch. Shapes: T tokens, E width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from yourbert.model.attention import Packed
from yourbert.model.encoder import Embeddings
from yourbert.training.fused.interface import DropoutSeed, Kernels
from yourbert.training.fused.weights import Seeds


class FusedEmbeddings(torch.autograd.Function):
    """The embeddings of a batch. pad: the row of the word table that is never trained."""

    @staticmethod
    def forward(
        ctx: Any, word_UE: Tensor, position_E: Tensor, segment_2E: Tensor, weight_E: Tensor, shift_E: Tensor,
        words_T: Tensor, batch: Packed, kernels: Kernels, draw: DropoutSeed, eps: float, pad: int, dtype: torch.dtype,
    ) -> Tensor:  # fmt: skip
        tables = (word_UE, position_E, segment_2E)
        places = (words_T, batch.positions_T, batch.segments_T)
        out_TE, stats_T2 = kernels.embed(tables, weight_E, shift_E, places, draw, eps, dtype)
        ctx.save_for_backward(*tables, weight_E, *places, stats_T2)
        ctx.facts = batch.layout, kernels, draw, pad
        return out_TE

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        word_UE, position_E, segment_2E, weight_E, words_T, positions_T, segments_T, stats_T2 = ctx.saved_tensors
        layout, kernels, draw, pad = ctx.facts
        tables, places = (word_UE, position_E, segment_2E), (words_T, positions_T, segments_T)
        dtotal_TE, sums_4E = kernels.embed_backward(gradients[0].contiguous(), tables, weight_E, places, draw, stats_T2)
        dposition_E = torch.zeros_like(position_E)
        kernels.position_sums(dtotal_TE, layout.bounds_S1, dposition_E[: layout.longest])
        dword_UE = kernels.word_gradient(dtotal_TE, words_T, len(word_UE), pad)
        return dword_UE, dposition_E, sums_4E[2:], sums_4E[0], sums_4E[1], *[None] * 7


class EmbeddingWeights:
    """Replaces the forward of `Embeddings` during training."""

    def __init__(self, embeddings: Embeddings, kernels: Kernels, seeds: Seeds) -> None:
        self.embeddings, self.kernels, self.seeds = embeddings, kernels, seeds

    def __call__(self, batch: Packed, dtype: torch.dtype, rng: torch.Generator | None) -> Tensor:
        dropped = round(self.embeddings.p * 65536)
        seeds = self.seeds.next_seed(rng, batch.tokens_T.device) if dropped else batch.tokens_T
        return self.apply(batch, dtype, seeds, dropped)

    def apply(self, batch: Packed, dtype: torch.dtype, seeds: Tensor, dropped: int) -> Tensor:
        """The embedded batch, with dropout of `dropped` / 65536 by the first seed."""
        own, draw = self.embeddings, DropoutSeed(seeds, 0, dropped, 65536 / (65536 - dropped))
        words_T, pad = own.rows_of(batch.tokens_T)
        out_TE: Tensor = FusedEmbeddings.apply(  # type: ignore[no-untyped-call]
            own.word, own.position, own.segment, own.norm.weight, own.norm.bias, words_T, batch, self.kernels, draw,
            own.norm.eps, pad, dtype,
        )  # fmt: skip
        return out_TE
