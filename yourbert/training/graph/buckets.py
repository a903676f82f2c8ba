"""A few fixed shapes for many batches, so that a captured GPU graph per shape serves a whole training.

Which rows share a batch stays as it is; a batch is filled up with tokens that no loss reads. The filler is cut into
sequences of at least one token and at most the bucket's longest, so that a kernel for sequences of several lengths
meets nothing unusual. Steps are sorted by their tokens and cut where the fewest filler tokens result (dynamic
programming over a grid of sizes).

Shapes: N optimizer steps, P batches of a step (one, or one for each task), G sizes on the grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yourbert.model.attention import round_up

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

TOKEN_STEP = 16  # tokens of a bucket: whole rows of tiles of a matrix product
LENGTH_STEP = 16  # its longest sequence
# Each bucket costs a capture (a tenth of a second): no more of them than keep the filler below this share.
MOST_BUCKETS = 8
FILLER_SHARE = 0.02
GRID = 256  # sizes that the cuts are chosen from


@dataclass(frozen=True)
class Bucket:
    """The shape of a filled batch: its tokens, its sequences with those of the filler, the longest it may hold."""

    tokens: int
    sequences: int
    longest: int


@dataclass(frozen=True)
class Sizes:
    """The real sizes of the batches of N steps; slots_P: the sequences of a batch with all its rows."""

    tokens_NP: Ints
    sequences_NP: Ints
    longest_NP: Ints
    slots_P: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """buckets: for each cut of the steps, a bucket for each of the P batches. of_N: which of them a step takes."""

    buckets: tuple[tuple[Bucket, ...], ...]
    of_N: Ints


def plan(sizes: Sizes, most: int = MOST_BUCKETS, filler: float = FILLER_SHARE) -> Plan:
    """At most `most` buckets, and no more than keep the filler below a share `filler` of the real tokens."""
    size_N = sizes.tokens_NP.sum(1)
    step = max(TOKEN_STEP, -(-int(np.ptp(size_N)) // GRID))
    levels, level_N = np.unique(size_N // step, return_inverse=True)
    largest_GP = np.zeros((len(levels), sizes.tokens_NP.shape[1]), np.int64)
    np.maximum.at(largest_GP, level_N, sizes.tokens_NP)
    filled_GP = (largest_GP // TOKEN_STEP + 1) * TOKEN_STEP
    ends = _cuts(filled_GP, np.bincount(level_N), most, (1 + filler) * size_N.sum())
    of_N = np.searchsorted(ends, level_N)
    buckets = tuple(_buckets_of(sizes, of_N == cut) for cut in range(len(ends)))
    return Plan(buckets, of_N.astype(np.int64))


def _cuts(filled_GP: Ints, count_G: Ints, most: int, enough: float) -> list[int]:
    """The last size of each bucket: of few cuts the best ones, and of numbers of cuts the first that is enough."""
    cost_GG = _costs(filled_GP, count_G)
    sizes = len(count_G)
    best_G, cut_at = cost_GG[0], [np.zeros(sizes, np.int64)]
    while best_G[-1] > enough and len(cut_at) < min(most, sizes):
        # One bucket more: those before end at size i, the new one takes i + 1 .. j.
        total_GG = best_G[:-1, None] + cost_GG[1:]
        cut_at.append(total_GG.argmin(0))
        best_G = total_GG.min(0)
    ends, last = [], sizes - 1
    for cut_G in reversed(cut_at):
        ends.append(last)
        last = int(cut_G[last])
    return ends[::-1]


def _costs(filled_GP: Ints, count_G: Ints) -> Floats:
    """[i, j]: tokens computed when the sizes i .. j share a bucket; infinite for j < i."""
    cost_GG = np.full((len(count_G), len(count_G)), np.inf)
    for first in range(len(count_G)):
        tokens_G = np.maximum.accumulate(filled_GP[first:]).sum(1)
        cost_GG[first, first:] = tokens_G * count_G[first:].cumsum()
    return cost_GG


def _buckets_of(sizes: Sizes, chosen_N: npt.NDArray[np.bool_]) -> tuple[Bucket, ...]:
    tokens, sequences, longest = (a[chosen_N].T for a in (sizes.tokens_NP, sizes.sequences_NP, sizes.longest_NP))
    return tuple(map(fit, tokens, sequences, longest, sizes.slots_P))


def fit(tokens_N: Ints, sequences_N: Ints, longest_N: Ints, slots: int) -> Bucket:
    """The smallest bucket that holds each of these batches, with a filler sequence at least.

    slots: sequences it has at least, so that the rows missing in a last batch have theirs.
    """
    longest = round_up(int(longest_N.max()), LENGTH_STEP)
    tokens = round_up(int(tokens_N.max()) + 1, TOKEN_STEP)
    while True:
        filler_N = tokens - tokens_N
        sequences = max(slots, int((sequences_N + np.maximum(1, -(-filler_N // longest))).max()))
        if (filler_N >= sequences - sequences_N).all():
            return Bucket(tokens, sequences, longest)
        tokens += TOKEN_STEP  # room for a token in each filler sequence
