"""Texts are compared by their hash: in either order of a pair, whatever their case and space."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from yourbert.corpus.leakage import row_keys, text_hash


@given(arrays(np.uint64, st.tuples(st.integers(1, 20), st.just(2))))
def test_a_pair_has_one_key_in_either_order(texts_RN: Any) -> None:
    assert np.array_equal(row_keys(texts_RN), row_keys(texts_RN[:, ::-1]))
    assert len(np.unique(row_keys(texts_RN))) == len({tuple(sorted(row)) for row in texts_RN.tolist()})


def test_texts_that_differ_in_case_and_space_alone_are_one() -> None:
    assert text_hash(" A  film\n") == text_hash("a film") != text_hash("afilm")
