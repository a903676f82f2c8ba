"""The 80/10/10 rule, checked on 200,000 tokens."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from yourbert.core.seeding import rng_for
from yourbert.pretraining.masking import Masking

SPECIAL = np.array([0, 1, 2, 3])
MASK = 3
MASKING = Masking(0.15, MASK, SPECIAL, 1000)


def batch(tokens: int = 200_000) -> npt.NDArray[np.int64]:
    drawn = rng_for(1, "test").integers(4, 1000, tokens)
    drawn[::20] = 1
    return drawn


def test_shares() -> None:
    tokens = batch()
    masked = MASKING.mask(tokens, rng_for(2, "mask"))
    candidates = (~np.isin(tokens, SPECIAL)).sum()
    seen = masked.tokens_T[masked.indices_M]
    assert len(masked.indices_M) == round(0.15 * candidates)
    assert abs(np.mean(seen == MASK) - 0.8) < 1e-3
    kept = seen == masked.targets_M
    assert abs(kept.mean() - 0.1) < 2e-3
    assert abs(((seen != MASK) & ~kept).mean() - 0.1) < 2e-3


def test_special_tokens_are_neither_selected_nor_inserted() -> None:
    tokens = batch()
    masked = MASKING.mask(tokens, rng_for(3, "mask"))
    assert not np.isin(tokens[masked.indices_M], SPECIAL).any()
    changed = masked.tokens_T[masked.indices_M]
    assert not np.isin(changed[changed != MASK], SPECIAL).any()


def test_other_tokens_are_unchanged() -> None:
    tokens = batch(5000)
    masked = MASKING.mask(tokens, rng_for(4, "mask"))
    untouched = np.setdiff1d(np.arange(len(tokens)), masked.indices_M)
    np.testing.assert_array_equal(masked.tokens_T[untouched], tokens[untouched])
    np.testing.assert_array_equal(masked.targets_M, tokens[masked.indices_M])


def test_same_generator_same_mask() -> None:
    tokens = batch(1000)
    first = MASKING.mask(tokens, rng_for(5, "mask"))
    again = MASKING.mask(tokens, rng_for(5, "mask"))
    np.testing.assert_array_equal(first.tokens_T, again.tokens_T)
