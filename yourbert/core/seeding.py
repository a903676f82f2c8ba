"""Every random draw has its own generator, so that one draw never changes another.

A generator is made from the run's seed and the names of its purpose:

    rng_for(seed, "shuffle", "sst", epoch).permutation(rows)

No state is carried from step to step, so an interrupted run that resumes makes the same draws as an uninterrupted one.
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
