"""Which tokens a masked language model must guess, and what it sees in their place.

Of the chosen tokens 80% become [MASK], 10% a random word piece and 10% stay (Devlin et al. 2019, section 3.1). The
number of chosen tokens is fixed by the number of candidates, so shapes do not vary from draw to draw.
Shapes: T tokens of the batch, M masked ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

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

    def select(self, kept_T: npt.NDArray[np.bool_]) -> Masked:
        """The part that lies in the tokens marked in `kept_T`, its places counted among those."""
        place_T = np.cumsum(kept_T) - 1
        inside_M = kept_T[self.places_M]
        return Masked(self.tokens_T[kept_T], place_T[self.places_M[inside_M]], self.targets_M[inside_M])


@dataclass(frozen=True)
class Masking:
    """How much is masked, and with what.

    rate: the share of the tokens that are not special. mask_id: what [MASK] is in the vocabulary; special_ids: what is
    never chosen or put in.
    """

    rate: float
    mask_id: int
    special_ids: Ints
    vocabulary: int

    @cached_property
    def _ordinary(self) -> Ints:
        """What may be put in; made once, since it takes ten times as long as all else of a mask."""
        return np.setdiff1d(np.arange(self.vocabulary), self.special_ids)

    def count(self, candidates: int) -> int:
        return max(1, round(self.rate * candidates))

    def mask(self, tokens_T: Ints, rng: np.random.Generator) -> Masked:
        """Masks at least one token. Raises AssertionError when all are special."""
        candidates = np.flatnonzero(~np.isin(tokens_T, self.special_ids))
        assert len(candidates), "a batch holds at least one word piece"
        count = self.count(len(candidates))
        # In the order of the draw: the first of them are masked, the next replaced.
        places_M = rng.permutation(candidates)[:count]
        seen_T = tokens_T.copy()
        masked = round(MASKED * count)
        replaced = round(REPLACED * count)
        seen_T[places_M[:masked]] = self.mask_id
        swapped = places_M[masked : masked + replaced]
        seen_T[swapped] = rng.choice(self._ordinary, len(swapped))
        places_M = np.sort(places_M)
        return Masked(seen_T, places_M, tokens_T[places_M])
