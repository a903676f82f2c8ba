"""Dropout (Srivastava et al. 2014) at its exact rate, with four elements per random draw."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def keep_mask(shape: Sequence[int], p: float, like: Tensor, rng: torch.Generator) -> tuple[Tensor, float]:
    """A mask of ones and zeros in the dtype of `like`, and the factor 1 / (1 - rate).

    One 64-bit draw serves four elements, which on a CPU is several times faster than `F.dropout`. The rate is p rounded
    to a multiple of 1/65536, and the factor is exact for that rate.
    """
    count = math.prod(shape)
    bits = torch.empty(-(-count // 4), dtype=torch.int64, device=like.device)
    bits.random_(-(2**63), None, generator=rng)
    dropped = round(p * 65536)
    keep = torch.empty(tuple(shape), dtype=like.dtype, device=like.device)
    torch.ge(bits.view(torch.int16)[:count].view(keep.shape), dropped - 32768, out=keep)
    return keep, 65536 / (65536 - dropped)


def dropout(x: Tensor, p: float, rng: torch.Generator | None) -> Tensor:
    """Drops elements of `x` with probability p and scales the others; p = 0 needs no generator."""
    if p == 0:
        return x
    assert rng is not None, "dropout draws from a generator"
    keep, factor = keep_mask(x.shape, p, x, rng)
    return x * keep.mul_(factor)
