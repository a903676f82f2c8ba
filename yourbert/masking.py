"""Which tokens a masked language model must guess, and what it sees in their place.

Of the chosen tokens 80% become [MASK], 10% a random word piece and 10% stay (Devlin et al. 2019, section 3.1). The
number of chosen tokens is fixed by the number of candidates, so shapes do not vary from draw to draw.
Shapes: T tokens of the batch, M masked ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
MASKED, REPLACED = 0.8, 0.1


@dataclass(frozen=True)
class Masked:
    """Tokens to read, the places to guess, and the true tokens there."""

    tokens_T: Ints
    places_M: Ints
    targets_M: Ints

    def within(self, kept_T: npt.NDArray[np.bool_]) -> Masked:
        """The part that lies in the tokens marked in `kept_T`, its places counted among those."""
        place_T = np.cumsum(kept_T) - 1
        inside_M = kept_T[self.places_M]
        return Masked(self.tokens_T[kept_T], place_T[self.places_M[inside_M]], self.targets_M[inside_M])


def mask_tokens(
    tokens_T: Ints, rate: float, mask_id: int, special_ids: Ints, vocabulary: int, rng: np.random.Generator
) -> Masked:
    """Chooses `rate` of the tokens that are not special, at least one. Raises AssertionError when all are special."""
    candidates = np.flatnonzero(~np.isin(tokens_T, special_ids))
    assert len(candidates), "a batch holds at least one word piece"
    count = max(1, round(rate * len(candidates)))
    places_M = rng.permutation(candidates)[:count]
    seen_T = tokens_T.copy()
    masked = round(MASKED * count)
    replaced = round(REPLACED * count)
    seen_T[places_M[:masked]] = mask_id
    swapped = places_M[masked : masked + replaced]
    ordinary = np.setdiff1d(np.arange(vocabulary), special_ids)
    seen_T[swapped] = rng.choice(ordinary, len(swapped))
    places_M = np.sort(places_M)
    return Masked(seen_T, places_M, tokens_T[places_M])
