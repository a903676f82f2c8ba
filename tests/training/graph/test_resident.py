"""A batch gathered on the device is the batch that the host gathers, filled up; the filler changes no number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support import tiny
from tests.support.gpu import machine_of, on_a_gpu
from yourbert.finetuning.losses import loss_sum
from yourbert.model.attention import Packed, attend
from yourbert.model.multitask import Model
from yourbert.model.pretrained import random_encoder
from yourbert.tokens.batching import gather
from yourbert.tokens.packing import PackedSplit
from yourbert.training.graph.buckets import Bucket, fit
from yourbert.training.graph.resident import FixedLayout, ResidentBatch, ResidentSplit

CPU = torch.device("cpu")
PAD = 0
TASKS = {
    "single": tiny.task(),
    "cross": tiny.task("sim", "similarity"),
    "bi": tiny.task("sim", "similarity", encoding="bi"),
}
ROWS = {
    "full": [5, 17, 3, 0, 40, 41, 2, 9],
    "last batch of a pass": [7, 30, -1, -1, -1, -1, -1, -1],
    "one row": [11, -1, -1, -1, -1, -1, -1, -1],
}
every_batch = pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def bucket_of(split: PackedSplit) -> Bucket:
    """One that holds every batch of ROWS."""
    batches = [gather(split, real(rows)) for rows in ROWS.values()]
    lengths = [np.diff(batch.offsets) for batch in batches]
    return fit(*(np.array([f(x) for x in lengths]) for f in (np.sum, len, np.max)), 8 * split.sequences_per_row)


def real(rows: list[int]) -> np.ndarray:
    return np.array([row for row in rows if row >= 0])


def both(task: Any, rows: list[int]) -> tuple[Packed, ResidentBatch, PackedSplit]:
    split = tiny.split(task, 48, 1)
    host = gather(split, real(rows))
    packed = Packed.from_numpy(host.tokens_T, host.segments_T, host.positions_T, host.offsets)
    return packed, ResidentSplit(split, PAD, CPU).gather(torch.tensor(rows), bucket_of(split)), split


@every_task
@every_batch
def test_the_device_gathers_what_the_host_gathers(task: Any, rows: list[int]) -> None:
    expected, got, split = both(task, rows)
    count, layout = expected.layout.tokens, got.packed.layout
    for ours, theirs in (
        (got.packed.tokens_T, expected.tokens_T),
        (got.packed.segments_T, expected.segments_T),
        (got.packed.positions_T, expected.positions_T),
        (layout.sequence_T, expected.layout.sequence_T),
    ):
        assert ours.dtype == torch.int64
        assert torch.equal(ours[:count], theirs[:count])
    for ours, theirs in ((layout.starts_S, expected.layout.starts_S), (layout.lengths_S, expected.layout.lengths_S)):
        assert torch.equal(ours[: len(theirs)], theirs)
    assert got.real_B.tolist() == [row >= 0 for row in rows]
    assert split.labels is not None
    assert torch.equal(got.labels_B[got.real_B], torch.from_numpy(split.labels[real(rows)]))


@every_task
@every_batch
def test_the_filler_is_cut_into_sequences_of_a_bucket(task: Any, rows: list[int]) -> None:
    expected, got, split = both(task, rows)
    bucket, layout, count = bucket_of(split), got.packed.layout, expected.layout.tokens
    assert (layout.rows, layout.tokens, layout.sequences, layout.longest) == (
        bucket.tokens,
        bucket.tokens,
        bucket.sequences,
        bucket.longest,
    )
    assert layout.bounds_S1.dtype == torch.int32 and len(layout.bounds_S1) == bucket.sequences + 1
    assert int(layout.bounds_S1[0]) == 0 and int(layout.bounds_S1[-1]) == bucket.tokens
    assert int(layout.lengths_S.min()) >= 1 and int(layout.lengths_S.max()) <= bucket.longest
    assert (got.packed.tokens_T[count:] == PAD).all()
    assert not got.packed.positions_T[count:].any() and not got.packed.segments_T[count:].any()


@every_task
@every_batch
def test_attention_in_a_bucket_is_attention_in_the_batch(task: Any, rows: list[int]) -> None:
    expected, got, _ = both(task, rows)
    count, heads = expected.layout.tokens, 3
    rng = torch.Generator().manual_seed(1)
    qkv = torch.randn(got.packed.layout.rows, 3 * 48, dtype=torch.float64, generator=rng)
    weights = torch.randn(count, 48, dtype=torch.float64, generator=rng)
    results, gradients = [], []
    for layout in (expected.layout, got.packed.layout):
        leaf = torch.nn.functional.pad(qkv[:count], (0, 0, 0, layout.rows - count)).requires_grad_()
        context = attend(leaf, layout, heads, kernel="grouped")[:count]
        (gradient,) = torch.autograd.grad((context * weights).sum(), leaf)
        assert not gradient[count:].any()
        results.append(context)
        gradients.append(gradient[:count])
    torch.testing.assert_close(results[0], results[1], atol=1e-12, rtol=0)
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-12, rtol=0)


def test_backward_in_a_bucket_is_the_derivative_under_dropout_too() -> None:
    bounds = torch.tensor([0, 3, 4, 9])
    token = torch.arange(9)
    sequence = torch.searchsorted(bounds[1:], token, right=True)
    layout = FixedLayout(bounds, sequence, token - bounds[sequence], Bucket(9, 3, 6))

    def context(qkv: Tensor) -> Tensor:
        return attend(qkv, layout, 2, 0.3, torch.Generator().manual_seed(5))

    qkv = torch.randn(9, 3 * 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.autograd.gradcheck(context, qkv.requires_grad_())


@every_task
@every_batch
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_filled_batch_has_the_loss_and_the_gradients_of_the_batch(task: Any, rows: list[int], pooling: Any) -> None:
    expected, got, split = both(task, rows)
    assert split.labels is not None
    encoder = random_encoder(tiny.CONFIG, torch.Generator().manual_seed(3))
    model = Model(encoder, [task], pooling, 0.0, torch.Generator().manual_seed(4)).eval()
    read = len(rows) * task.sequences_per_row

    def loss(packed: Packed, count: int, labels_B: Tensor, real_B: Tensor | None) -> Tensor:
        scores = model.scores_of_features(task.name, encoder.pooled(packed, None, pooling)[:count], None)
        return loss_sum(task, scores, labels_B, real_B=real_B) / len(real(rows))

    plain = loss(expected, read, torch.from_numpy(split.labels[real(rows)]), None)
    filled = loss(got.packed, read, got.labels_B, got.real_B)
    torch.testing.assert_close(filled, plain, atol=1e-6, rtol=0)
    used = [p for n, p in model.named_parameters() if pooling == "cls" or "pooler" not in n]
    for one, other in zip(torch.autograd.grad(filled, used), torch.autograd.grad(plain, used), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_row_that_is_missing_adds_nothing_to_the_loss(task: Any, weighted: bool) -> None:
    classification = task.kind == "classification"
    if weighted and not classification:
        pytest.skip("class weights belong to classes")
    rng = torch.Generator().manual_seed(1)
    scores = torch.randn(6, task.outputs, generator=rng)
    labels = torch.randint(3, (6,), generator=rng) if classification else torch.rand(6, generator=rng) * 5
    weights = torch.tensor([0.5, 2.0, 1.0]) if weighted else None
    real_B = torch.arange(6) < 4
    scores[5] = torch.inf  # whatever a filler row scores
    scores.requires_grad_()
    masked = loss_sum(task, scores, labels, weights, real_B)
    torch.testing.assert_close(masked, loss_sum(task, scores[:4], labels[:4], weights), atol=0, rtol=1e-6)
    with torch.no_grad():
        scores[5] = 3.0
    (gradient,) = torch.autograd.grad(loss_sum(task, scores, labels, weights, real_B), scores)
    assert gradient[:4].any() and not gradient[4:].any()


@on_a_gpu
@pytest.mark.parametrize("rows", [[5, 17, 3, 0, 40, 41, 2, 9], [7, 30, -1, -1, -1, -1, -1, -1]])
def test_flash_equals_grouped_in_a_bucket(rows: list[int]) -> None:
    machine_of()
    device, split = torch.device("cuda", 0), tiny.split(tiny.task(), 48, 1)
    lengths = np.diff(gather(split, np.array([row for row in rows if row >= 0])).offsets)
    bucket = fit(np.array([lengths.sum()]), np.array([len(lengths)]), np.array([lengths.max()]), 8)
    layout = ResidentSplit(split, 0, device).gather(torch.tensor(rows, device=device), bucket).packed.layout
    qkv = torch.randn(bucket.tokens, 3 * 64, generator=torch.Generator().manual_seed(1))
    qkv = qkv.to(device, torch.bfloat16).requires_grad_()
    flash, grouped = (attend(qkv, layout, 2, kernel=kernel) for kernel in ("flash", "grouped"))  # type: ignore[arg-type]
    gradients = [torch.autograd.grad(x.float().square().sum(), qkv)[0] for x in (flash, grouped)]
    torch.testing.assert_close(flash, grouped, atol=0.03, rtol=0.03)
    torch.testing.assert_close(*gradients, atol=0.1, rtol=0.1)
