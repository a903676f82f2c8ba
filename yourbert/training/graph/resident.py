"""A split in device memory, and batches of fixed shape that are gathered from it by row numbers.

The lengths of the sequences and the start of the filler are computed on the device, by the same operations for all
rows, so the gathering can be part of a captured graph. On a CPU the same code gives the same batches; it is tested
there.

Shapes: B rows of a batch, missing ones included; R = B * sequences_per_row of their sequences; S sequences and T tokens
of the bucket; H heads, D head width; for the grouped kernel one block of S sequences and width L.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from yourbert.model.attention import Group, Layout, Packed, RowMaps
from yourbert.tokens.packing import PackedSplit
from yourbert.training.graph.buckets import Bucket


@dataclass(frozen=True, eq=False)
class ResidentBatch:
    """packed: the sequences of the rows in order, then the filler. real_B: false for missing rows.

    labels_B: None if the split has no labels.
    """

    packed: Packed
    labels_B: Tensor | None
    real_B: Tensor


class ResidentSplit:
    """The arrays of a split on `device`. pad: the token id of the filler."""

    def __init__(self, split: PackedSplit, pad: int, device: torch.device) -> None:
        self.sequences_per_row, self.pad = split.sequences_per_row, pad
        self.tokens = _place(split.tokens, np.int32, device)
        self.offsets = _place(split.offsets, np.int64, device)
        self.second = _place(split.second, np.int64, device)
        self.labels = None if split.labels is None else _place(split.labels, split.labels.dtype, device)

    @staticmethod
    def bytes_of(split: PackedSplit) -> int:
        """The device memory that a split takes."""
        return 4 * len(split.tokens) + 16 * split.n_sequences + 8 * len(split) * (split.labels is not None)

    def gather(self, rows_B: Tensor, bucket: Bucket) -> ResidentBatch:
        """The rows as a batch in the shape of `bucket`; the row number -1 means no row, and comes after all others."""
        # As `gather` in `yourbert/tokens/batching.py`, but with fixed sizes: S and T are those of the bucket. Missing
        # rows are sequences of length 0, which become filler sequences.
        device, real_B = rows_B.device, rows_B >= 0
        within = torch.arange(self.sequences_per_row, device=device)
        sequences_R = (rows_B.clamp(min=0)[:, None] * self.sequences_per_row + within).flatten()
        real_R = real_B[:, None].expand(-1, self.sequences_per_row).flatten()
        starts_R = self.offsets[sequences_R]
        lengths_R = (self.offsets[sequences_R + 1] - starts_R).masked_fill(~real_R, 0)
        bounds_S1, total = _bounds(lengths_R, real_R, bucket)

        token_T = torch.arange(bucket.tokens, device=device)
        # The sequence of a token is the first that ends after it.
        sequence_T = torch.searchsorted(bounds_S1[1:], token_T, right=True)
        position_T = token_T - bounds_S1[sequence_T]
        filler_T = token_T >= total
        first_T = _padded(starts_R, bucket.sequences)[sequence_T]
        second_T = _padded(self.second[sequences_R], bucket.sequences)[sequence_T]
        pieces_T = self.tokens[(first_T + position_T).masked_fill(filler_T, 0)].long()
        packed = Packed(
            tokens_T=pieces_T.masked_fill(filler_T, self.pad),
            segments_T=(position_T >= second_T).masked_fill(filler_T, False).long(),
            positions_T=position_T.masked_fill(filler_T, 0),
            layout=FixedLayout(bounds_S1, sequence_T, position_T, bucket),
        )
        return ResidentBatch(packed, None if self.labels is None else self.labels[rows_B.clamp(min=0)], real_B)


def _bounds(lengths_R: Tensor, real_R: Tensor, bucket: Bucket) -> tuple[Tensor, Tensor]:
    """The start of each of the S sequences and the end of the last one; the number of real tokens.

    The filler tokens are divided evenly among the filler sequences. `fit` has chosen the bucket such that each gets at
    least one token, and at most as many as the longest sequence.
    """
    count, total = real_R.sum(), lengths_R.sum()
    sequence_S1 = torch.arange(bucket.sequences + 1, device=lengths_R.device)
    ends_S1 = F.pad(lengths_R.cumsum(0), (1, bucket.sequences - len(lengths_R)))
    share_S1 = ((bucket.tokens - total) * (sequence_S1 - count)).div(bucket.sequences - count, rounding_mode="floor")
    return torch.where(sequence_S1 <= count, ends_S1, total + share_S1), total


def _padded(x_R: Tensor, length: int) -> Tensor:
    return F.pad(x_R, (0, length - len(x_R)))


def _place(array: npt.NDArray[Any], dtype: npt.DTypeLike, device: torch.device) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=dtype)).to(device)


class FixedLayout(Layout):
    """The layout of a bucket, known only on the device; every token belongs to a sequence.

    For the grouped kernel all sequences are padded to the longest of the bucket, in one block.
    """

    def __init__(self, bounds_S1: Tensor, sequence_T: Tensor, position_T: Tensor, bucket: Bucket) -> None:
        self.bucket, self.position_T, self.longest = bucket, position_T, bucket.longest
        super().__init__(
            offsets=(),
            rows=bucket.tokens,
            starts_S=bounds_S1[:-1],
            lengths_S=bounds_S1.diff(),
            sequence_T=sequence_T,
            bounds_S1=bounds_S1.int(),
        )

    @cached_property
    def padding_SL(self) -> Tensor:
        return torch.arange(self.longest, device=self.starts_S.device) >= self.lengths_S[:, None]

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        bias_SL = torch.zeros(self.padding_SL.shape, device=self.starts_S.device)
        bias_SL.masked_fill_(self.padding_SL, -torch.inf)
        return (Group(self.sequences, self.longest, 0, bias_SL[:, None, None]),)

    @property
    def sequences(self) -> int:
        return self.bucket.sequences

    @property
    def tokens(self) -> int:
        return self.bucket.tokens

    def _make_maps(self, parts: int, heads: int) -> RowMaps:
        """The maps of `Layout`, computed on the device; the padding is a mask, because its size varies."""
        part, head = (torch.arange(n, device=self.starts_S.device) for n in (parts, heads))
        # Block rows [parts, S, H, L]; packed rows [T, parts, H].
        column_L = torch.arange(self.longest, device=self.starts_S.device)
        token_SL = self.starts_S[:, None] + column_L.masked_fill(self.padding_SL, 0)
        into = (token_SL[None, :, None, :] * parts + part[:, None, None, None]) * heads + head[:, None]
        block = part[:, None] * self.sequences + self.sequence_T[:, None, None]
        back = (block * heads + head) * self.longest + self.position_T[:, None, None]
        padding = self.padding_SL[:, None, :].expand(-1, heads, -1)
        return RowMaps(into.flatten(), padding.flatten(), back.flatten())
