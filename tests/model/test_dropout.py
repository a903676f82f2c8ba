"""Dropout drops what it says, and what it drops follows from the generator alone."""

import pytest
import torch

from tests.support.gpu import machine_of, on_a_gpu
from yourbert.model.dropout import dropout, keep_mask
from yourbert.runtime.gpu import dropout_generator


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.999, 1e-4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_rate_is_exact(p: float, dtype: torch.dtype) -> None:
    count = 1_000_003
    keep, factor = keep_mask((count,), p, torch.empty(0, dtype=dtype), seeded(1))
    rate = round(p * 65536) / 65536
    assert abs(rate - p) <= 0.5 / 65536 and factor == pytest.approx(1 / (1 - rate), rel=1e-12)
    dropped = int((keep == 0).sum())
    assert int((keep == 1).sum()) == count - dropped
    assert abs(dropped - rate * count) < 5 * (rate * (1 - rate) * count) ** 0.5


def test_neighbours_are_dropped_independently() -> None:
    keep, _ = keep_mask((1_000_000,), 0.25, torch.empty(0), seeded(1))
    dropped = 1 - keep
    for distance in (1, 2, 3, 4, 8):
        together = float((dropped[:-distance] * dropped[distance:]).mean())
        assert together == pytest.approx(0.25**2, abs=0.0015)


def test_masks_drawn_one_after_the_other_are_independent() -> None:
    rng = seeded(1)
    first, second = (1 - keep_mask((1_000_000,), 0.25, torch.empty(0), rng)[0] for _ in range(2))
    assert float((first * second).mean()) == pytest.approx(0.25**2, abs=0.0015)


def test_a_mask_follows_from_the_state_of_the_generator() -> None:
    rng = seeded(7)
    keep_mask((5,), 0.5, torch.empty(0), rng)
    state = rng.get_state()
    drawn, other = (keep_mask((1000,), 0.5, torch.empty(0), rng)[0] for _ in range(2))
    again, _ = keep_mask((1000,), 0.5, torch.empty(0), torch.Generator().set_state(state))
    assert torch.equal(again, drawn) and not torch.equal(drawn, other)


def test_dropping_without_a_generator_is_a_broken_invariant() -> None:
    with pytest.raises(AssertionError):
        dropout(torch.ones(4), 0.1, None)
    x = torch.ones(4)
    assert dropout(x, 0.0, None) is x


@on_a_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_has_its_rate_on_a_gpu(dtype: torch.dtype) -> None:
    machine_of()
    device = torch.device("cuda", 0)
    rng = dropout_generator(device).manual_seed(1)
    keep, _ = keep_mask((1_000_003,), 0.1, torch.empty(0, dtype=dtype, device=device), rng)
    dropped, kept = int((keep == 0).sum()), int((keep == 1).sum())
    assert keep.dtype == dtype and dropped + kept == len(keep)
    assert dropped / len(keep) == pytest.approx(0.1, abs=0.002)
