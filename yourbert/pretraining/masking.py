"""Masking: the tokens that a masked language model must predict, and what it reads in their place.

Of the selected tokens 80% become [MASK], 10% a random word piece, and 10% stay (Devlin et al. 2019, section 3.1). Their
number depends only on the number of candidates, not on the draw.
Shapes: T tokens of the batch, M selected ones.
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
    """The tokens to read, the indices of the tokens to predict, and the original tokens there."""

    tokens_T: Ints
    indices_M: Ints
    targets_M: Ints

    def select(self, kept_T: npt.NDArray[np.bool_]) -> Masked:
        """The part in the tokens where `kept_T` is true; its indices count only these tokens."""
        new_index_T = np.cumsum(kept_T) - 1
        kept_M = kept_T[self.indices_M]
        return Masked(self.tokens_T[kept_T], new_index_T[self.indices_M[kept_M]], self.targets_M[kept_M])


@dataclass(frozen=True)
class Masking:
    """The masking rule.

    rate: the fraction of the tokens, special ones not counted, that is selected. mask_id: the id of [MASK].
    special_ids: the ids that are never selected or inserted. vocabulary: the number of ids.
    """

    rate: float
    mask_id: int
    special_ids: Ints
    vocabulary: int

    @cached_property
    def _insertable_ids(self) -> Ints:
        """The ids that may be inserted; cached, because computing them takes ten times as long as a mask."""
        return np.setdiff1d(np.arange(self.vocabulary), self.special_ids)

    def count(self, candidates: int) -> int:
        return max(1, round(self.rate * candidates))

    def mask(self, tokens_T: Ints, rng: np.random.Generator) -> Masked:
        """Selects and masks at least one token. Asserts that not all tokens are special."""
        candidates = np.flatnonzero(~np.isin(tokens_T, self.special_ids))
        assert len(candidates), "a batch has at least one word piece"
        count = self.count(len(candidates))
        indices_M = rng.permutation(candidates)[:count]
        input_T = tokens_T.copy()
        masked = round(MASKED * count)
        replaced = round(REPLACED * count)
        # The indices are in random order: the first become [MASK], the next a random word piece, the rest stay.
        input_T[indices_M[:masked]] = self.mask_id
        replaced_indices = indices_M[masked : masked + replaced]
        input_T[replaced_indices] = rng.choice(self._insertable_ids, len(replaced_indices))
        indices_M = np.sort(indices_M)
        return Masked(input_T, indices_M, tokens_T[indices_M])
