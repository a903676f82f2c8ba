"""Batches hold the rows they should, without padding, and follow from the seed alone."""

from __future__ import annotations

import numpy as np
import pytest

from tests import tiny
from yourbert.batching import Stream, gather, in_order_of_length, row_lengths


@pytest.mark.parametrize("encoding", ["cross", "bi"])
def test_gathered_rows_are_the_rows(encoding: str) -> None:
    described = tiny.task("sim", "similarity", encoding=encoding)
    split = tiny.split(described, 20, 3)
    rows = np.array([7, 0, 19])
    batch = gather(split, rows)
    per_row = split.sequences_per_row
    sequences = [s for r in rows for s in range(r * per_row, (r + 1) * per_row)]
    want = [split.tokens[split.offsets[s] : split.offsets[s + 1]] for s in sequences]
    np.testing.assert_array_equal(batch.tokens_T, np.concatenate(want))
    np.testing.assert_array_equal(np.diff(batch.offsets), [len(w) for w in want])
    assert batch.labels_B is not None and split.labels is not None
    np.testing.assert_array_equal(batch.labels_B, split.labels[rows])


def test_positions_count_up_and_restart_with_each_sequence() -> None:
    batch = gather(tiny.split(tiny.task(), 30, 1), np.arange(30))
    starts = batch.offsets[:-1]
    assert (batch.positions_T[starts] == 0).all()
    inside = np.setdiff1d(np.arange(1, len(batch.positions_T)), starts)
    np.testing.assert_array_equal(batch.positions_T[inside], batch.positions_T[inside - 1] + 1)


def test_segments_turn_where_the_second_text_begins() -> None:
    split = tiny.split(tiny.task("sim", "similarity"), 5, 1)
    batch = gather(split, np.arange(5))
    for s in range(5):
        segments = batch.segments_T[batch.offsets[s] : batch.offsets[s + 1]]
        assert segments.tolist() == [0] * split.second[s] + [1] * (len(segments) - split.second[s])


def test_a_pass_holds_every_row_once() -> None:
    stream = Stream(tiny.split(tiny.task(), 50, 1), 8, 1, "mood")
    assert stream.batches_per_pass == 7
    for turn in range(2):
        rows = np.concatenate([stream.rows(turn * 7 + k) for k in range(7)])
        assert sorted(rows) == list(range(50))


def test_a_batch_follows_from_its_number_alone() -> None:
    """So that an interrupted run meets the same batches, whatever it asked for before."""
    split = tiny.split(tiny.task(), 50, 1)
    first, second = Stream(split, 8, 1, "mood"), Stream(split, 8, 1, "mood")
    walked = [first.rows(k) for k in range(20)]
    np.testing.assert_array_equal(second.rows(19), walked[19])
    np.testing.assert_array_equal(second.rows(3), walked[3])
    assert sorted(walked[0]) != sorted(walked[7]), "the second pass is shuffled anew"
    assert sorted(Stream(split, 8, 2, "mood").rows(0)) != sorted(walked[0])


@pytest.mark.parametrize("tokens_per_batch", [1, 40, 10**6])
def test_prediction_order_covers_every_row_once(tokens_per_batch: int) -> None:
    split = tiny.split(tiny.task(), 37, 1)
    batches = list(in_order_of_length(split, tokens_per_batch))
    rows = np.concatenate([b.rows_B for b in batches])
    assert sorted(rows) == list(range(37))
    lengths = row_lengths(split)[rows]
    assert (np.diff(lengths) >= 0).all()
