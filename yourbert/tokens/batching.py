"""Batches of packed rows, without padding, in an order that follows from the seed.

A batch is a few flat arrays: the tokens of its sequences one after another, and the offsets between them. Its rows
depend only on the seed and the batch number, so every kernel and every resumed run sees the same batches.
Shapes: T tokens, S sequences, R rows of a split, B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from yourbert.core.seeding import rng_for
from yourbert.tokens.packing import PackedSplit

Ints = npt.NDArray[np.int64]
Difficulty = npt.NDArray[np.floating[Any] | np.integer[Any]]


@dataclass(frozen=True)
class Batch:
    """Rows `rows_B` of a split as arrays for the encoder. `labels_B` is None if the split has no labels."""

    tokens_T: Ints
    segments_T: Ints
    positions_T: Ints
    offsets: Ints
    rows_B: Ints
    labels_B: npt.NDArray[Any] | None


def gather(split: PackedSplit, rows_B: Ints) -> Batch:
    """Makes one batch of the given rows, in the given order."""
    # A row is `per_row` adjacent sequences of the split: [B] -> [B, per_row] -> [S].
    per_row = split.sequences_per_row
    sequences_S = (rows_B[:, None] * per_row + np.arange(per_row)).ravel()
    starts_S = split.offsets[sequences_S]
    lengths_S = split.offsets[sequences_S + 1] - starts_S
    offsets = np.concatenate([[0], np.cumsum(lengths_S)])
    # Positions restart at 0 in each sequence, and start + position is a token's index in the split. So one gather
    # copies all tokens of the batch, without a loop over sequences.
    positions_T = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths_S)
    tokens_T = split.tokens[positions_T + np.repeat(starts_S, lengths_S)]
    # Segment 1 starts at the second text. For a single text `second` is its length, so all of it is segment 0.
    segments_T = positions_T >= np.repeat(split.second[sequences_S], lengths_S)
    labels_B = None if split.labels is None else np.asarray(split.labels[rows_B])
    return Batch(tokens_T.astype(np.int64), segments_T.astype(np.int64), positions_T, offsets, rows_B, labels_B)


def row_lengths(split: PackedSplit) -> Ints:
    """The number of tokens of each row, summed over its sequences, [R]."""
    per_row = split.sequences_per_row
    lengths: Ints = np.diff(np.asarray(split.offsets[::per_row]))
    return lengths


class BatchSampler:
    """Endless batches, shuffled anew in each epoch; batch `k` depends only on the seed, the name and `k`.

    difficulty_R: if given, the first epoch is a curriculum: easy rows may come at any time, hard rows only late.
    """

    def __init__(
        self, split: PackedSplit, batch_size: int, seed: int, name: str, difficulty_R: Difficulty | None = None
    ) -> None:
        self.split, self.batch_size, self.seed, self.name = split, batch_size, seed, name
        self.difficulty_R = difficulty_R
        self.batches_per_epoch = -(-len(split) // batch_size)
        self._lengths = row_lengths(split)
        self._order: tuple[int, Ints] | None = None

    def rows(self, k: int) -> Ints:
        """The rows of batch `k`, shortest first."""
        epoch, index = divmod(k, self.batches_per_epoch)
        if self._order is None or self._order[0] != epoch:
            rng = rng_for(self.seed, "shuffle", self.name, epoch)
            if epoch == 0 and self.difficulty_R is not None:
                self._order = (epoch, competence_order(self.difficulty_R, rng))
            else:
                self._order = (epoch, rng.permutation(len(self.split)))
        rows_B = self._order[1][index * self.batch_size : (index + 1) * self.batch_size]
        # The order within a batch does not matter to the loss; attention groups adjacent sequences of equal length.
        return rows_B[np.argsort(self._lengths[rows_B], kind="stable")]

    def batch(self, k: int) -> Batch:
        return gather(self.split, self.rows(k))

    @property
    def max_sequence_length(self) -> int:
        """The number of tokens of the longest sequence."""
        return int(np.diff(self.split.offsets).max())

    def count_tokens(self, rows_B: Ints) -> int:
        return int(self._lengths[rows_B].sum())


def competence_order(difficulty_R: Difficulty, rng: np.random.Generator) -> Ints:
    """An order of all rows for a curriculum: at fraction t of the epoch, a random one of the easiest sqrt(t) of them.

    This is the square-root competence of Platanios et al. 2019, "Competence-based curriculum learning".
    """
    rows = len(difficulty_R)
    easiest_R = np.argsort(difficulty_R, kind="stable").tolist()
    limit_R = np.ceil(rows * np.sqrt(np.arange(1, rows + 1) / rows)).astype(np.int64).tolist()
    available: list[int] = []
    order_R: list[int] = []
    start = 0
    for end, chance in zip(limit_R, rng.random(rows).tolist(), strict=True):
        available += easiest_R[start:end]
        start = end
        index = int(chance * len(available))
        available[index], available[-1] = available[-1], available[index]
        order_R.append(available.pop())
    return np.array(order_R, dtype=np.int64)


def shard_rows(rows_B: Ints, rank: int, world: int) -> Ints:
    """The rows of one of `world` ranks, from a batch sorted by length; empty if there are fewer rows than ranks.

    Rows are assigned from the longest on, in alternating direction, so that all ranks get about as many tokens.
    """
    round_B, index_B = np.divmod(np.arange(len(rows_B))[::-1], world)
    shard_B: Ints = rows_B[np.where(round_B % 2, world - 1 - index_B, index_B) == rank]
    return shard_B


def split_micro_batches(
    rows_B: Ints, number: int, counts: tuple[int, int]
) -> Iterator[tuple[Ints, tuple[int, int], bool]]:
    """Splits rows into at most `number` micro-batches; yields rows, the counts to report, and whether it is the last.

    counts: rows and tokens of the whole batch, reported with the first micro-batch; the others report (0, 0).
    Without rows there is one empty micro-batch.
    """
    micro_batches = np.array_split(rows_B, max(1, min(number, len(rows_B))))
    for index, micro_batch_B in enumerate(micro_batches, start=1):
        yield micro_batch_B, counts if index == 1 else (0, 0), index == len(micro_batches)


def length_sorted_batches(split: PackedSplit, tokens_per_batch: int) -> Iterator[Batch]:
    """Batches of all rows sorted by length, of about `tokens_per_batch` tokens each; `rows_B` restores the order."""
    lengths = row_lengths(split)
    order = np.argsort(lengths, kind="stable")
    batch_of_row = (np.cumsum(lengths[order]) - 1) // tokens_per_batch
    cuts = np.flatnonzero(np.diff(batch_of_row)) + 1
    for rows_B in np.split(order, cuts):
        if len(rows_B):
            yield gather(split, rows_B)
