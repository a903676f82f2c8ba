"""AdamW (Loshchilov and Hutter 2019) over matrices in one contiguous buffer, as a Triton program."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def adamw_program(
    master_N, gradient_N, mean_N, square_N, copy_N, lr, scale, stopped, corrections, count,
    beta1: tl.constexpr, beta2: tl.constexpr, eps: tl.constexpr, decay: tl.constexpr, COPY: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Updates the masters, and their copies in lower precision if there are any; does nothing if `stopped` is set.

    scale: the divisor of the gradient. corrections: 1 - beta ** step of both moments.
    """
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    real = at < count
    if tl.load(stopped) == 0:
        rate = tl.load(lr)
        gradient = tl.load(gradient_N + at, mask=real, other=0.0).to(tl.float32) / tl.load(scale)
        master = tl.load(master_N + at, mask=real, other=0.0) * (1.0 - rate * decay)
        mean = tl.load(mean_N + at, mask=real, other=0.0)
        mean += (1.0 - beta1) * (gradient - mean)
        square = beta2 * tl.load(square_N + at, mask=real, other=0.0) + (1.0 - beta2) * gradient * gradient
        deviation = tl.sqrt(square) / tl.sqrt(tl.load(corrections + 1)) + eps
        master -= rate / tl.load(corrections) * mean / deviation
        tl.store(master_N + at, master, mask=real)
        tl.store(mean_N + at, mean, mask=real)
        tl.store(square_N + at, square, mask=real)
        if COPY:
            tl.store(copy_N + at, master.to(copy_N.dtype.element_ty), mask=real)
