"""Every batch fits its bucket, the cuts waste as little as any, and the same sizes give the same plan."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yourbert.core.seeding import rng_for
from yourbert.training.graph.buckets import LENGTH_STEP, TOKEN_STEP, Plan, Sizes, fit, plan

ROWS = 16


def sizes_of(lengths_NPB: np.ndarray) -> Sizes:
    """Batches of ROWS sequences, given their lengths."""
    counts = np.full(lengths_NPB.shape[:2], lengths_NPB.shape[2])
    return Sizes(lengths_NPB.sum(2), counts, lengths_NPB.max(2), (lengths_NPB.shape[2],) * lengths_NPB.shape[1])


def drawn(steps: int, parts: int = 1, mean: float = 25.0) -> Sizes:
    lengths = rng_for(1, "buckets").gamma(3.0, mean / 3, (steps, parts, ROWS))
    return sizes_of(np.clip(lengths.astype(np.int64), 1, 512))


def assert_fits(sizes: Sizes, planned: Plan) -> None:
    for step, choice in enumerate(planned.of_N):
        for part, bucket in enumerate(planned.buckets[choice]):
            filler = bucket.tokens - sizes.tokens_NP[step, part]
            sequences = bucket.sequences - sizes.sequences_NP[step, part]
            assert 1 <= sequences <= filler, "filler sequences have a token each"
            assert -(-filler // sequences) <= bucket.longest, "and are no longer than the longest"
            assert sizes.longest_NP[step, part] <= bucket.longest
            assert sizes.slots_P[part] <= bucket.sequences, "rows that are missing have their sequences, too"
            assert bucket.tokens % TOKEN_STEP == 0 and bucket.longest % LENGTH_STEP == 0


def filled(sizes: Sizes, planned: Plan) -> int:
    return sum(sum(bucket.tokens for bucket in planned.buckets[choice]) for choice in planned.of_N)


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("mean", [3.0, 25.0, 220.0])
def test_every_batch_fits(parts: int, mean: float) -> None:
    sizes = drawn(400, parts, mean)
    planned = plan(sizes)
    assert_fits(sizes, planned)
    assert len(planned.buckets) <= 8


@given(st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=4), min_size=1, max_size=12), st.integers(1, 4))
@settings(max_examples=200, deadline=None)
def test_batches_of_any_size_fit(lengths: list[list[int]], most: int) -> None:
    """Also a last batch of fewer rows, and texts of a token or two."""
    tokens, counts, longest = (np.array([[f(batch)] for batch in lengths]) for f in (sum, len, max))
    sizes = Sizes(tokens, counts, longest, (4,))
    planned = plan(sizes, most, 0.0)
    assert_fits(sizes, planned)
    assert len(planned.buckets) <= most


def test_filler_stays_below_its_share() -> None:
    sizes = drawn(2000)
    planned = plan(sizes, most=100, filler=0.05)
    room = TOKEN_STEP * len(planned.of_N)  # for the tokens of more than one filler sequence
    assert filled(sizes, planned) <= 1.05 * sizes.tokens_NP.sum() + room
    fewer = plan(sizes, most=len(planned.buckets) - 1, filler=0.0)
    assert len(fewer.buckets) < len(planned.buckets)
    assert filled(sizes, fewer) > 1.05 * sizes.tokens_NP.sum(), "one bucket fewer would not have been enough"


def test_the_cuts_are_the_best_ones() -> None:
    """Against every way to cut sizes that lie on the grid."""
    tokens = np.array([63, 63, 127, 191, 191, 191, 447, 511, 959])[:, None]
    sizes = Sizes(tokens, np.ones_like(tokens), np.full_like(tokens, 960), (1,))
    planned = plan(sizes, most=3, filler=0.0)
    distinct = np.unique(tokens)

    def cost(ends: tuple[int, ...]) -> int:
        limits = np.array([*(distinct[end] for end in ends), distinct[-1]])
        return int(limits[np.searchsorted(limits, tokens[:, 0])].sum())

    best = min(cost(ends) for ends in combinations(range(len(distinct) - 1), 2))
    reached = sum(tokens[planned.of_N == c].max() * (planned.of_N == c).sum() for c in range(3))
    assert reached == best


def test_same_sizes_same_plan() -> None:
    one, other = plan(drawn(500, 2)), plan(drawn(500, 2))
    assert one.buckets == other.buckets and np.array_equal(one.of_N, other.of_N)


def test_equal_batches_need_one_bucket() -> None:
    assert len(plan(sizes_of(np.full((50, 1, ROWS), 24))).buckets) == 1


def test_room_is_made_for_a_token_in_each_filler_sequence() -> None:
    """A full batch and one of a single row: the latter's missing rows are filler sequences of the former's bucket."""
    bucket = fit(np.array([127, 8]), np.array([16, 1]), np.array([16, 16]), 16)
    assert bucket.tokens - 127 >= bucket.sequences - 16 >= 1
    assert (bucket.tokens - 8) / (bucket.sequences - 1) <= bucket.longest
