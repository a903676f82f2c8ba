"""Generators follow from the seed and the name of their purpose."""

from __future__ import annotations

import torch

from yourbert.core.seeding import rng_for, seed_of
from yourbert.runtime.machine import generator


def test_generators_are_named() -> None:
    draw = [torch.rand(3, generator=generator(1, *name)) for name in (("a",), ("a",), ("b",), ("a", 1))]
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2])
    assert not torch.equal(draw[0], draw[3])
    assert seed_of(1, "a") != seed_of(2, "a")
    assert rng_for(1, "a").integers(2**32) == rng_for(1, "a").integers(2**32)
