"""Hashes of texts ignore case and white space, and keys of pairs ignore their order."""

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


def test_texts_that_differ_only_in_case_and_space_have_one_hash() -> None:
    assert text_hash(" A  film\n") == text_hash("a film") != text_hash("afilm")
