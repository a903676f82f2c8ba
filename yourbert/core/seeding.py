"""Every random draw has a named generator, so that no draw disturbs another.

A generator is made from the run's seed and the names of its purpose, for instance `("shuffle", "sst", 3)`. Nothing is
carried from step to step: a run that continues after an interruption makes the same draws as one that was not.
"""

from __future__ import annotations

import hashlib

import numpy as np


def seed_of(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose; different purposes give unrelated seeds."""
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def rng_for(seed: int, *purpose: str | int) -> np.random.Generator:
    """The NumPy generator of one purpose."""
    return np.random.Generator(np.random.PCG64(seed_of(seed, *purpose)))
