"""Batches have the right rows, without padding, and depend only on the seed."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support import tiny
from yourbert.tokens.batching import BatchSampler, competence_order, gather, length_sorted_batches, row_lengths


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


def test_segment_1_starts_at_the_second_text() -> None:
    split = tiny.split(tiny.task("sim", "similarity"), 5, 1)
    batch = gather(split, np.arange(5))
    for s in range(5):
        segments = batch.segments_T[batch.offsets[s] : batch.offsets[s + 1]]
        assert segments.tolist() == [0] * split.second[s] + [1] * (len(segments) - split.second[s])


def test_an_epoch_has_every_row_once() -> None:
    sampler = BatchSampler(tiny.split(tiny.task(), 50, 1), 8, 1, "mood")
    assert sampler.batches_per_epoch == 7
    for turn in range(2):
        rows = np.concatenate([sampler.rows(turn * 7 + k) for k in range(7)])
        assert sorted(rows) == list(range(50))


def test_a_curriculum_starts_with_easy_rows_and_still_reads_each_once() -> None:
    difficulty_R = np.random.default_rng(3).permutation(2000).astype(float)
    sampler = BatchSampler(tiny.split(tiny.task(), 2000, 1), 100, 1, "mood", difficulty_R)
    passes = [np.concatenate([sampler.rows(20 * turn + k) for k in range(20)]) for turn in range(2)]
    assert all(sorted(rows) == list(range(2000)) for rows in passes)
    means = [[difficulty_R[rows[100 * k : 100 * (k + 1)]].mean() for k in range(20)] for rows in passes]
    assert means[0][0] < 400 and means[0][19] > 1400, "the mean of all is 1000"
    assert np.corrcoef(means[0], np.arange(20))[0, 1] > 0.9
    assert min(means[1]) > 800, "the second pass is shuffled"


def test_a_hard_row_comes_only_at_its_competence() -> None:
    order_R = competence_order(np.arange(1000), np.random.default_rng(5))
    assert (order_R < 1000 * np.sqrt(np.arange(1, 1001) / 1000)).all()
    assert sorted(order_R) == list(range(1000)) and order_R[:20].tolist() != sorted(order_R[:20])


def test_a_batch_depends_only_on_its_number() -> None:
    """So a resumed run gets the same batches, whichever it requested before."""
    split = tiny.split(tiny.task(), 50, 1)
    first, second = BatchSampler(split, 8, 1, "mood"), BatchSampler(split, 8, 1, "mood")
    walked = [first.rows(k) for k in range(20)]
    np.testing.assert_array_equal(second.rows(19), walked[19])
    np.testing.assert_array_equal(second.rows(3), walked[3])
    assert sorted(walked[0]) != sorted(walked[7]), "the second pass is shuffled anew"
    assert sorted(BatchSampler(split, 8, 2, "mood").rows(0)) != sorted(walked[0])


@pytest.mark.parametrize("tokens_per_batch", [1, 40, 10**6])
def test_prediction_order_covers_every_row_once(tokens_per_batch: int) -> None:
    split = tiny.split(tiny.task(), 37, 1)
    batches = list(length_sorted_batches(split, tokens_per_batch))
    rows = np.concatenate([b.rows_B for b in batches])
    assert sorted(rows) == list(range(37))
    lengths = row_lengths(split)[rows]
    assert (np.diff(lengths) >= 0).all()
