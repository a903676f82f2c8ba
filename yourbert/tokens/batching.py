"""Packed rows -> batches without padding.

A batch is a few flat arrays: the tokens of its sequences one after another and the offsets between them. Which rows
share a batch follows from the seed alone, so every kernel and every number of interruptions sees the same batches.
Shapes: T tokens, S sequences, B rows.
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
Ranked = npt.NDArray[np.floating[Any] | np.integer[Any]]


@dataclass(frozen=True)
class Batch:
    """Rows `rows_B` of a split, ready for the encoder; `labels_B` is None where the split has no labels."""

    tokens_T: Ints
    segments_T: Ints
    positions_T: Ints
    offsets: Ints
    rows_B: Ints
    labels_B: npt.NDArray[Any] | None


def gather(split: PackedSplit, rows_B: Ints) -> Batch:
    """The given rows as one batch, in the given order."""
    # A row is `per_row` sequences that are neighbours in the split: [B] -> [B, per_row] -> [S].
    per_row = split.sequences_per_row
    sequences_S = (rows_B[:, None] * per_row + np.arange(per_row)).ravel()
    starts_S = split.offsets[sequences_S]
    lengths_S = split.offsets[sequences_S + 1] - starts_S
    offsets = np.concatenate([[0], np.cumsum(lengths_S)])
    # Positions begin at 0 in each sequence. A token's place in the split is its sequence's start plus its position, so
    # one gather copies all tokens of the batch, without a loop over sequences.
    positions_T = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths_S)
    tokens_T = split.tokens[positions_T + np.repeat(starts_S, lengths_S)]
    # Segment 1 from the second text on; of a single text `second` is its length, so all of it is segment 0.
    segments_T = positions_T >= np.repeat(split.second[sequences_S], lengths_S)
    labels_B = None if split.labels is None else np.asarray(split.labels[rows_B])
    return Batch(tokens_T.astype(np.int64), segments_T.astype(np.int64), positions_T, offsets, rows_B, labels_B)


def row_lengths(split: PackedSplit) -> Ints:
    """Tokens of each row, all its sequences together."""
    per_row = split.sequences_per_row
    lengths: Ints = np.diff(np.asarray(split.offsets[::per_row]))
    return lengths


class Stream:
    """Endless batches of a split, reshuffled each pass; batch number `k` depends on the seed and `k` alone.

    hardness_R: for a curriculum, in which the first pass lets easy rows come at any time and hard ones only late.
    """

    def __init__(
        self, split: PackedSplit, batch_size: int, seed: int, name: str, hardness_R: Ranked | None = None
    ) -> None:
        self.split, self.batch_size, self.seed, self.name = split, batch_size, seed, name
        self.hardness_R = hardness_R
        self.batches_per_pass = -(-len(split) // batch_size)
        self._lengths = row_lengths(split)
        self._order: tuple[int, Ints] | None = None

    def rows(self, k: int) -> Ints:
        """The rows of batch `k`, shortest first: within a batch order is free, and equal lengths belong together."""
        turn, index = divmod(k, self.batches_per_pass)
        if self._order is None or self._order[0] != turn:
            rng = rng_for(self.seed, "shuffle", self.name, turn)
            if turn == 0 and self.hardness_R is not None:
                self._order = (turn, easy_first(self.hardness_R, rng))
            else:
                self._order = (turn, rng.permutation(len(self.split)))
        rows_B = self._order[1][index * self.batch_size : (index + 1) * self.batch_size]
        return rows_B[np.argsort(self._lengths[rows_B], kind="stable")]

    def batch(self, k: int) -> Batch:
        return gather(self.split, self.rows(k))

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return int(np.diff(self.split.offsets).max())

    def tokens_in(self, rows_B: Ints) -> int:
        return int(self._lengths[rows_B].sum())


def easy_first(hardness_R: Ranked, rng: np.random.Generator) -> Ints:
    """All rows once; when a share t of the pass is done, those come next that are among the sqrt(t) easiest share.

    The competence of Platanios et al. 2019, "Competence-based curriculum learning"; which of them comes is chance.
    """
    rows = len(hardness_R)
    easiest_R = np.argsort(hardness_R, kind="stable").tolist()
    open_R = np.ceil(rows * np.sqrt(np.arange(1, rows + 1) / rows)).astype(np.int64).tolist()
    waiting: list[int] = []
    order_R: list[int] = []
    opened = 0
    for upto, chance in zip(open_R, rng.random(rows).tolist(), strict=True):
        waiting += easiest_R[opened:upto]
        opened = upto
        place = int(chance * len(waiting))
        waiting[place], waiting[-1] = waiting[-1], waiting[place]
        order_R.append(waiting.pop())
    return np.array(order_R, dtype=np.int64)


def deal(rows_B: Ints, rank: int, world: int) -> Ints:
    """The rows that one of `world` ranks takes of a batch sorted by length; none where there are fewer than ranks.

    Dealt from the longest on, there and back, so that every rank has about as many tokens.
    """
    turn_B, place_B = np.divmod(np.arange(len(rows_B))[::-1], world)
    mine_B: Ints = rows_B[np.where(turn_B % 2, world - 1 - place_B, place_B) == rank]
    return mine_B


def in_pieces(rows_B: Ints, pieces: int, counts: tuple[int, int]) -> Iterator[tuple[Ints, tuple[int, int], bool]]:
    """The rows in as many parts (of one row at least), what the part counts for, and whether it is the last.

    counts: the rows and tokens of all of them, for which the first part stands. There is a part even of no rows.
    """
    parts = np.array_split(rows_B, max(1, min(pieces, len(rows_B))))
    for number, part_B in enumerate(parts, start=1):
        yield part_B, counts if number == 1 else (0, 0), number == len(parts)


def in_order_of_length(split: PackedSplit, tokens_per_batch: int) -> Iterator[Batch]:
    """Every row once, rows of like length together, each batch near `tokens_per_batch`; `rows_B` restores the order."""
    lengths = row_lengths(split)
    order = np.argsort(lengths, kind="stable")
    batch_of_row = (np.cumsum(lengths[order]) - 1) // tokens_per_batch
    cuts = np.flatnonzero(np.diff(batch_of_row)) + 1
    for rows_B in np.split(order, cuts):
        if len(rows_B):
            yield gather(split, rows_B)
