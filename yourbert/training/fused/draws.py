"""Dropout inside a Triton program: whether an element is kept follows from a seed and its place alone.

So the backward pass finds the same again and no mask is stored, and it does not matter which program asks. The bits are
those of a hash with three multiplications (Wellons 2018, triple32): half of the seed is added before, half of it mixed
in between. With two multiplications the draws of neighbours are related (LOG.md).
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def kept(seed, places, threshold):
    """Whether each place is kept: `threshold` of 65536 are not."""
    bits = places.to(tl.uint32) + (seed & 0xFFFFFFFF).to(tl.uint32)
    bits = (bits ^ (bits >> 17)) * 0xED5AD4BB
    bits = (bits ^ (bits >> 11)) * 0xAC4C1B51
    bits ^= (seed >> 32).to(tl.uint32)
    bits = (bits ^ (bits >> 15)) * 0x31848BAB
    return ((bits ^ (bits >> 14)) >> 16).to(tl.int32) >= threshold
