"""Triton programs over the rows of a packed batch: add and norm, GELU, and sums over rows for gradients of vectors.

Dropout is computed inside the programs: whether an element is kept depends only on a seed and its index. So the
backward pass recomputes the same mask, and no mask is stored.

Shapes: T rows, E width; tiles of ROWS x COLUMNS, the columns of a row rounded up to a power of two.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def kept(seed, places, threshold):
    """Whether each index is kept by dropout: `threshold` of 65536 are dropped.

    The bits are a hash with three multiplications (Wellons 2018, triple32); half of the seed is added before them, half
    is mixed in between. With two multiplications, draws of neighbouring indices are correlated (LOG.md).
    """
    bits = places.to(tl.uint32) + (seed & 0xFFFFFFFF).to(tl.uint32)
    bits = (bits ^ (bits >> 17)) * 0xED5AD4BB
    bits = (bits ^ (bits >> 11)) * 0xAC4C1B51
    bits ^= (seed >> 32).to(tl.uint32)
    bits = (bits ^ (bits >> 15)) * 0x31848BAB
    return ((bits ^ (bits >> 14)) >> 16).to(tl.int32) >= threshold


@triton.jit(do_not_specialize=["T", "site", "threshold"])
def add_norm_program(
    x_TE, y_TE, bias_E, weight_E, shift_E, seeds, out_TE, sum_TE, stats_T2, T, site, threshold, factor, eps,
    E: tl.constexpr, DROP: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """out = norm(x + dropout(y + bias)), one row per program. sum, stats (mean, 1 / deviation): for the backward."""
    row = tl.program_id(0)
    column = tl.arange(0, COLUMNS)
    real, at = column < E, row * E + column
    y = tl.load(y_TE + at, mask=real, other=0.0).to(tl.float32) + tl.load(bias_E + column, mask=real, other=0.0)
    if DROP:
        y = tl.where(kept(tl.load(seeds + site), at, threshold), y * factor, 0.0)
    total = tl.load(x_TE + at, mask=real, other=0.0).to(tl.float32) + y
    total = total.to(sum_TE.dtype.element_ty)
    tl.store(sum_TE + at, total, mask=real)
    total = total.to(tl.float32)
    mean = tl.sum(total, 0) / E
    centred = tl.where(real, total - mean, 0.0)
    scale = tl.rsqrt(tl.sum(centred * centred, 0) / E + eps)
    tl.store(stats_T2 + 2 * row, mean)
    tl.store(stats_T2 + 2 * row + 1, scale)
    weight = tl.load(weight_E + column, mask=real, other=0.0)
    out = centred * scale * weight + tl.load(shift_E + column, mask=real, other=0.0)
    tl.store(out_TE + at, out.to(out_TE.dtype.element_ty), mask=real)


@triton.jit
def norm_backward(dout, total, stats_T2, weight, row, there, real, E: tl.constexpr):
    """[rows, columns]: the normalized sums, and the gradient of the sums before the norm."""
    mean = tl.load(stats_T2 + 2 * row, mask=there, other=0.0)
    scale = tl.load(stats_T2 + 2 * row + 1, mask=there, other=0.0)
    normal = tl.where(real, (total - mean[:, None]) * scale[:, None], 0.0)
    dnormal = dout * weight[None, :]
    along = tl.sum(dnormal * normal, 1) / E
    dtotal = scale[:, None] * (dnormal - (tl.sum(dnormal, 1) / E)[:, None] - normal * along[:, None])
    return normal, tl.where(real, dtotal, 0.0)


@triton.jit(do_not_specialize=["T", "site", "threshold"])
def add_norm_backward_program(
    dout_TE, sum_TE, stats_T2, weight_E, seeds, dx_TE, dy_TE, parts_P3E, T, site, threshold, factor,
    E: tl.constexpr, DROP: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The gradients of x and y; those of weight, shift and bias, summed over the rows of this program."""
    program = tl.program_id(0)
    column = tl.arange(0, COLUMNS)
    inside = column < E
    weight = tl.load(weight_E + column, mask=inside, other=0.0)
    dweight = tl.zeros([COLUMNS], tl.float32)
    dshift = tl.zeros([COLUMNS], tl.float32)
    dbias = tl.zeros([COLUMNS], tl.float32)
    for first in range(program * ROWS, T, tl.num_programs(0) * ROWS):
        row = first + tl.arange(0, ROWS)
        real = (row < T)[:, None] & inside[None, :]
        at = row[:, None] * E + column[None, :]
        dout = tl.load(dout_TE + at, mask=real, other=0.0).to(tl.float32)
        total = tl.load(sum_TE + at, mask=real, other=0.0).to(tl.float32)
        normal, dtotal = norm_backward(dout, total, stats_T2, weight, row, row < T, real, E)
        tl.store(dx_TE + at, dtotal.to(dx_TE.dtype.element_ty), mask=real)
        if DROP:
            dtotal = tl.where(kept(tl.load(seeds + site), at, threshold), dtotal * factor, 0.0)
        tl.store(dy_TE + at, dtotal.to(dy_TE.dtype.element_ty), mask=real)
        dweight += tl.sum(dout * normal, 0)
        dshift += tl.sum(dout, 0)
        dbias += tl.sum(dtotal, 0)
    at = parts_P3E + program * 3 * E + column
    tl.store(at, dweight, mask=inside)
    tl.store(at + E, dshift, mask=inside)
    tl.store(at + 2 * E, dbias, mask=inside)


@triton.jit
def gelu_program(x_TE, bias_E, out_TE, count, E: tl.constexpr, BLOCK: tl.constexpr):
    """out = gelu(x + bias) over all elements."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_TE + at, mask=at < count, other=0.0).to(tl.float32) + tl.load(bias_E + at % E)
    half = 0.5 * (1.0 + tl.erf(x * 0.7071067811865476))
    tl.store(out_TE + at, (x * half).to(out_TE.dtype.element_ty), mask=at < count)


@triton.jit(do_not_specialize=["T"])
def gelu_backward_program(
    dout_TE, x_TE, bias_E, dx_TE, parts_PE, T, E: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):  # fmt: skip
    """The gradient of x; that of bias, summed over the rows of this program."""
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < E
    bias = tl.load(bias_E + column, mask=inside, other=0.0)
    dbias = tl.zeros([COLUMNS], tl.float32)
    for first in range(tl.program_id(0) * ROWS, T, tl.num_programs(0) * ROWS):
        row = first + tl.arange(0, ROWS)
        real = (row < T)[:, None] & inside[None, :]
        at = row[:, None] * E + column[None, :]
        x = tl.load(x_TE + at, mask=real, other=0.0).to(tl.float32) + bias[None, :]
        half = 0.5 * (1.0 + tl.erf(x * 0.7071067811865476))
        slope = half + x * tl.exp(-0.5 * x * x) * 0.3989422804014327
        dx = tl.load(dout_TE + at, mask=real, other=0.0).to(tl.float32) * slope
        dx = tl.where(real, dx, 0.0)
        tl.store(dx_TE + at, dx.to(dx_TE.dtype.element_ty), mask=real)
        dbias += tl.sum(dx, 0)
    tl.store(parts_PE + tl.program_id(0) * E + column, dbias, mask=inside)


@triton.jit(do_not_specialize=["parts_0", "parts_1", "parts_2", "parts_3"])
def sums_program(
    parts, out, parts_0, parts_1, parts_2, parts_3,
    E: tl.constexpr, F: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Sums over the parts of four consecutive tables of the widths 3 E, F, 3 E and 3 E."""
    column = tl.program_id(0) * COLUMNS
    beyond_0 = (column >= 3 * E).to(tl.int32)
    beyond_1 = (column >= 3 * E + F).to(tl.int32)
    beyond_2 = (column >= 6 * E + F).to(tl.int32)
    start = beyond_0 * parts_0 * 3 * E + beyond_1 * parts_1 * F + beyond_2 * parts_2 * 3 * E
    before = beyond_0 * 3 * E + beyond_1 * F + beyond_2 * 3 * E
    width = 3 * E + (beyond_0 - beyond_1) * (F - 3 * E)
    count = parts_0 + beyond_0 * (parts_1 - parts_0) + beyond_1 * (parts_2 - parts_1) + beyond_2 * (parts_3 - parts_2)
    own = tl.arange(0, COLUMNS)
    total = tl.zeros([COLUMNS], tl.float32)
    for first in range(0, count, ROWS):
        part = first + tl.arange(0, ROWS)
        at = start + part[:, None] * width + (column - before + own)[None, :]
        total += tl.sum(tl.load(parts + at, mask=(part < count)[:, None], other=0.0), 0)
    tl.store(out + column + own, total)
