"""The 80/10/10 rule, on enough tokens to tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from yourbert.core.seeding import rng_for
from yourbert.pretraining.masking import Masking

SPECIAL = np.array([0, 1, 2, 3])
MASK = 3
PIECES = Masking(0.15, MASK, SPECIAL, 1000)
# Two thirds of the pieces go on a word.
WORDS = replace(PIECES, continues_V=np.arange(1000) % 3 > 0)
BOTH = pytest.mark.parametrize("masking", [PIECES, WORDS], ids=["pieces", "words"])


def batch(tokens: int = 200_000) -> npt.NDArray[np.int64]:
    drawn = rng_for(1, "test").integers(4, 1000, tokens)
    drawn[::20] = 1
    return drawn


@BOTH
def test_shares(masking: Masking) -> None:
    tokens = batch()
    masked = masking.mask(tokens, rng_for(2, "mask"))
    candidates = (~np.isin(tokens, SPECIAL)).sum()
    seen = masked.tokens_T[masked.places_M]
    assert len(masked.places_M) == round(0.15 * candidates)
    assert abs(np.mean(seen == MASK) - 0.8) < 1e-3
    kept = seen == masked.targets_M
    assert abs(kept.mean() - 0.1) < 2e-3
    assert abs(((seen != MASK) & ~kept).mean() - 0.1) < 2e-3


@BOTH
def test_special_tokens_are_neither_chosen_nor_put_in(masking: Masking) -> None:
    tokens = batch()
    masked = masking.mask(tokens, rng_for(3, "mask"))
    assert not np.isin(tokens[masked.places_M], SPECIAL).any()
    changed = masked.tokens_T[masked.places_M]
    assert not np.isin(changed[changed != MASK], SPECIAL).any()


@BOTH
def test_everything_else_stays(masking: Masking) -> None:
    tokens = batch(5000)
    masked = masking.mask(tokens, rng_for(4, "mask"))
    untouched = np.setdiff1d(np.arange(len(tokens)), masked.places_M)
    np.testing.assert_array_equal(masked.tokens_T[untouched], tokens[untouched])
    np.testing.assert_array_equal(masked.targets_M, tokens[masked.places_M])


@BOTH
def test_same_generator_same_mask(masking: Masking) -> None:
    tokens = batch(1000)
    first = masking.mask(tokens, rng_for(5, "mask"))
    again = masking.mask(tokens, rng_for(5, "mask"))
    np.testing.assert_array_equal(first.tokens_T, again.tokens_T)


def words_of(tokens: npt.NDArray[np.int64]) -> list[list[int]]:
    """The places of each word's pieces, found one token after another."""
    words: list[list[int]] = []
    inside = False
    for place, token in enumerate(tokens.tolist()):
        if token in SPECIAL:
            inside = False
        elif inside and token % 3 > 0:
            words[-1].append(place)
        else:
            words.append([place])
            inside = True
    return words


def test_words_are_chosen_whole() -> None:
    """All of a word or nothing, but for one word at most, which the fixed number of places cuts short."""
    tokens = batch(5000)
    chosen = set(WORDS.mask(tokens, rng_for(6, "mask")).places_M.tolist())
    shares = [len(chosen & set(word)) / len(word) for word in words_of(tokens)]
    assert sum(0 < share < 1 for share in shares) <= 1
    assert abs(np.mean([share == 1 for share in shares]) - 0.15) < 0.02


def test_pieces_of_one_word_meet_different_fates() -> None:
    """Which tenth stays is drawn piece by piece, so words of three pieces do not stay as a whole."""
    tokens = np.tile(np.array([6, 7, 8]), 20_000)
    masked = WORDS.mask(tokens, rng_for(7, "mask"))
    fate = (masked.tokens_T == MASK)[masked.places_M][: len(masked.places_M) // 3 * 3].reshape(-1, 3)
    assert abs((fate.all(1)).mean() - 0.8**3) < 0.03
