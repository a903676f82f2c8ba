"""Every kernel equals attention by definition, forward and backward, and no sequence sees another."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.gpu import on_a_gpu
from yourbert.model.attention import ROW_STEP, Layout, Packed, attend

HEADS, WIDTH = 3, 48
# One token, both sides of a block's width, equal lengths, and one long enough for a block of its own.
LENGTHS = [1, 5, 31, 32, 33, 64, 7, 7, 300, 2]


def offsets_of(lengths: list[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)])


def layout_of(lengths: list[int], filler: int = 0, device: str = "cpu") -> Layout:
    return Layout.build(offsets_of(lengths), sum(lengths) + filler, device)


def by_definition(qkv_T3E: Tensor, layout: Layout) -> Tensor:
    """softmax(q k' / sqrt(D)) v, one sequence and one head at a time."""
    q, k, v = qkv_T3E.view(len(qkv_T3E), 3, HEADS, -1).unbind(1)
    context = torch.zeros_like(q)
    for start, end in pairwise(layout.offsets):
        for head in range(HEADS):
            one = slice(start, end), head
            scores = q[one] @ k[one].T / q.shape[-1] ** 0.5
            context[one] = torch.softmax(scores, -1) @ v[one]
    return context.flatten(1)


def random_qkv(layout: Layout, dtype: torch.dtype = torch.float64) -> Tensor:
    rng = torch.Generator().manual_seed(1)
    return torch.randn(layout.rows, 3 * WIDTH, dtype=dtype, generator=rng).requires_grad_()


@pytest.mark.parametrize("lengths", [LENGTHS, [1], [4, 4, 4], [32, 32], [512]])
@pytest.mark.parametrize("filler", [0, 9])
def test_grouped_equals_the_definition_forward_and_backward(lengths: list[int], filler: int) -> None:
    layout = layout_of(lengths, filler)
    qkv = random_qkv(layout)
    weights = torch.randn(layout.rows, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    results = [attend(qkv, layout, HEADS, kernel="grouped"), by_definition(qkv, layout)]
    gradients = [torch.autograd.grad((r * weights).sum(), qkv)[0] for r in results]
    torch.testing.assert_close(results[0], results[1], atol=1e-12, rtol=0)
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-12, rtol=0)


def test_backward_is_the_derivative_under_dropout_too() -> None:
    layout = layout_of([3, 1, 4], filler=1)

    def context(qkv: Tensor) -> Tensor:
        return attend(qkv, layout, HEADS, 0.3, torch.Generator().manual_seed(5))

    assert torch.autograd.gradcheck(context, random_qkv(layout))


def test_filler_gives_zero_and_gets_zero_gradient() -> None:
    layout = layout_of([3, 4], filler=5)
    qkv = random_qkv(layout)
    context = attend(qkv, layout, HEADS)
    context[:7].sum().backward()  # type: ignore[no-untyped-call]
    assert qkv.grad is not None
    assert context[7:].abs().max() == 0 and qkv.grad[7:].abs().max() == 0


@pytest.mark.parametrize("changed", range(len(LENGTHS)))
def test_no_sequence_attends_across_a_boundary(changed: int) -> None:
    layout = layout_of(LENGTHS)
    qkv = random_qkv(layout, torch.float32).detach()
    before = attend(qkv, layout, HEADS)
    start, end = layout.offsets[changed], layout.offsets[changed + 1]
    qkv[start:end] += 100
    after = attend(qkv, layout, HEADS)
    others = torch.ones(layout.rows, dtype=torch.bool)
    others[start:end] = False
    assert torch.equal(before[others], after[others])


def test_many_sequences_split_into_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, split = layout_of(LENGTHS * 3), layout_of(LENGTHS * 3)
    blocks = len(whole.groups)
    monkeypatch.setattr("yourbert.model.attention.BLOCK_SCORES", 2 * 32 * 32)
    assert len(split.groups) > blocks
    qkv = random_qkv(whole)
    torch.testing.assert_close(attend(qkv, whole, HEADS), attend(qkv, split, HEADS), atol=1e-12, rtol=0)


def test_dropped_weights_average_to_the_context_without_dropout() -> None:
    layout = layout_of([6])
    qkv = random_qkv(layout).detach()
    rng = torch.Generator().manual_seed(3)
    draws = torch.stack([attend(qkv, layout, HEADS, 0.2, rng) for _ in range(4000)])
    error = draws.std(0) / 4000**0.5
    assert ((draws.mean(0) - attend(qkv, layout, HEADS)).abs() < 6 * error).all()


def test_same_seed_same_bytes() -> None:
    layout = layout_of(LENGTHS)
    qkv = random_qkv(layout, torch.float32).detach()
    first, again, other = (attend(qkv, layout, HEADS, 0.1, torch.Generator().manual_seed(seed)) for seed in (7, 7, 8))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_dropping_weights_without_a_generator_is_a_broken_invariant() -> None:
    with pytest.raises(AssertionError):
        attend(torch.ones(4, 9), layout_of([4]), HEADS, 0.1, None)


def test_packed_fills_up_rows_and_keeps_the_tokens() -> None:
    offsets = offsets_of([3, 4])
    tokens = np.arange(1, 8, dtype=np.uint16)
    batch = Packed.from_numpy(tokens, tokens % 2, np.array([0, 1, 2, 0, 1, 2, 3]), offsets)
    assert len(batch.tokens_T) == batch.layout.rows == ROW_STEP and batch.layout.tokens == 7
    assert batch.tokens_T.dtype == batch.segments_T.dtype == batch.positions_T.dtype == torch.int64
    assert batch.tokens_T[:7].tolist() == tokens.tolist() and batch.tokens_T[7:].abs().sum() == 0
    assert batch.layout.starts_S.tolist() == [0, 3] and batch.layout.lengths_S.tolist() == [3, 4]
    assert batch.layout.sequence_T.tolist() == [0, 0, 0, 1, 1, 1, 1] and batch.layout.longest == 4


@pytest.mark.parametrize("offsets", [[0], [0, 3, 3], [1, 3], [0, 9]])
def test_impossible_offsets_are_a_broken_invariant(offsets: list[int]) -> None:
    with pytest.raises(AssertionError):
        Layout.build(offsets, 8, "cpu")


@on_a_gpu
@pytest.mark.parametrize("kernel", ["grouped", "flash"])
def test_kernels_on_a_gpu_equal_the_definition(kernel: str) -> None:
    layout = layout_of(LENGTHS, filler=3)
    qkv = random_qkv(layout)
    expected = by_definition(qkv, layout)
    (wanted,) = torch.autograd.grad(expected.square().sum(), qkv)
    there = qkv.detach().to("cuda", torch.bfloat16).requires_grad_()
    context = attend(there, layout_of(LENGTHS, 3, "cuda"), HEADS, kernel=kernel)  # type: ignore[arg-type]
    (got,) = torch.autograd.grad(context.square().sum(), there)
    torch.testing.assert_close(context.cpu().double(), expected, atol=0.03, rtol=0.03)
    torch.testing.assert_close(got.cpu().double(), wanted, atol=0.1, rtol=0.1)
