"""Pads many batches to a few fixed shapes (buckets), so that one CUDA graph per shape serves a whole training.

The rows of a batch stay the same; filler tokens are appended that no loss reads. The filler is divided into sequences
of one token or more, at most as long as the bucket's longest sequence, so that variable-length kernels need no special
case. The steps are sorted by their number of tokens and divided into buckets with the fewest filler tokens, by dynamic
programming over a grid of sizes.

Shapes: N optimizer steps, P batches of a step (one per task), G sizes of the grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yourbert.model.attention import round_up

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

TOKEN_STEP = 16  # the tokens of a bucket are a multiple of this, for full tiles in matrix products
LENGTH_STEP = 16  # and so is the longest sequence
# Capturing a bucket takes a tenth of a second, so there are only as many as keep the filler below this share.
MOST_BUCKETS = 8
FILLER_SHARE = 0.02
GRID = 256  # the number of sizes among which the boundaries are chosen


@dataclass(frozen=True)
class Bucket:
    """The shape of a padded batch: its tokens, its sequences, filler included, and the length of the longest."""

    tokens: int
    sequences: int
    longest: int


@dataclass(frozen=True)
class Sizes:
    """The sizes of the batches of N steps without filler. slots_P: the sequences of a complete batch."""

    tokens_NP: Ints
    sequences_NP: Ints
    longest_NP: Ints
    slots_P: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """buckets: for each group of steps, a bucket for each of the P batches. of_N: the group of each step."""

    buckets: tuple[tuple[Bucket, ...], ...]
    of_N: Ints


def plan(sizes: Sizes, most: int = MOST_BUCKETS, filler: float = FILLER_SHARE) -> Plan:
    """The fewest buckets that keep the filler below a share `filler` of the real tokens, at most `most`."""
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
    """The largest size of each bucket: the best boundaries, for the fewest buckets that cost at most `enough`."""
    cost_GG = _costs(filled_GP, count_G)
    sizes = len(count_G)
    best_G, cut_at = cost_GG[0], [np.zeros(sizes, np.int64)]
    while best_G[-1] > enough and len(cut_at) < min(most, sizes):
        # One more bucket: the earlier ones end at size i, the new one has the sizes i + 1 .. j.
        total_GG = best_G[:-1, None] + cost_GG[1:]
        cut_at.append(total_GG.argmin(0))
        best_G = total_GG.min(0)
    ends, last = [], sizes - 1
    for cut_G in reversed(cut_at):
        ends.append(last)
        last = int(cut_G[last])
    return ends[::-1]


def _costs(filled_GP: Ints, count_G: Ints) -> Floats:
    """[i, j]: the tokens computed if the sizes i .. j share a bucket; infinite for j < i."""
    cost_GG = np.full((len(count_G), len(count_G)), np.inf)
    for first in range(len(count_G)):
        tokens_G = np.maximum.accumulate(filled_GP[first:]).sum(1)
        cost_GG[first, first:] = tokens_G * count_G[first:].cumsum()
    return cost_GG


def _buckets_of(sizes: Sizes, chosen_N: npt.NDArray[np.bool_]) -> tuple[Bucket, ...]:
    tokens, sequences, longest = (a[chosen_N].T for a in (sizes.tokens_NP, sizes.sequences_NP, sizes.longest_NP))
    return tuple(map(fit, tokens, sequences, longest, sizes.slots_P))


def fit(tokens_N: Ints, sequences_N: Ints, longest_N: Ints, slots: int) -> Bucket:
    """The smallest bucket that fits each of these batches and at least one filler sequence.

    slots: the least number of sequences, so that the rows missing from a short batch have one each.
    """
    longest = round_up(int(longest_N.max()), LENGTH_STEP)
    tokens = round_up(int(tokens_N.max()) + 1, TOKEN_STEP)
    while True:
        filler_N = tokens - tokens_N
        sequences = max(slots, int((sequences_N + np.maximum(1, -(-filler_N // longest))).max()))
        if (filler_N >= sequences - sequences_N).all():
            return Bucket(tokens, sequences, longest)
        tokens += TOKEN_STEP  # room for a token in each filler sequence
