"""The embeddings as Triton programs: lookup in three tables, sum, norm and dropout in one pass, and its backward.

Shapes: T tokens, E width, U rows of the word table, S sequences; P partial sums.
"""

from __future__ import annotations

import triton
import triton.language as tl

from yourbert.training.fused.rows import kept, norm_backward


@triton.jit
def _total(
    word_UE, position_E, segment_2E, words_T, positions_T, segments_T, token, real, column, inside, E: tl.constexpr
):  # fmt: skip
    """[tokens, columns]: the sum of each token's rows in the three tables; and its segment."""
    mask = real[:, None] & inside[None, :]
    total = tl.zeros([token.shape[0], column.shape[0]], tl.float32)
    word = tl.load(words_T + token, mask=real, other=0)
    position = tl.load(positions_T + token, mask=real, other=0)
    segment = tl.load(segments_T + token, mask=real, other=0)
    total += tl.load(word_UE + word[:, None] * E + column[None, :], mask=mask, other=0.0)
    total += tl.load(position_E + position[:, None] * E + column[None, :], mask=mask, other=0.0)
    total += tl.load(segment_2E + segment[:, None] * E + column[None, :], mask=mask, other=0.0)
    return total, segment


@triton.jit(do_not_specialize=["T", "threshold"])
def embed_program(
    word_UE, position_E, segment_2E, weight_E, shift_E, words_T, positions_T, segments_T, seeds, out_TE, stats_T2, T,
    threshold, factor, eps, E: tl.constexpr, DROP: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """out = dropout(norm(word + position + segment)), one token per program. stats: mean and 1 / deviation."""
    token = tl.program_id(0) + tl.arange(0, 1)
    column = tl.arange(0, COLUMNS)
    inside = column < E
    total, _ = _total(
        word_UE, position_E, segment_2E, words_T, positions_T, segments_T, token, token < T, column, inside, E
    )
    mean = tl.sum(total, 1) / E
    centred = tl.where(inside[None, :], total - mean[:, None], 0.0)
    scale = tl.rsqrt(tl.sum(centred * centred, 1) / E + eps)
    tl.store(stats_T2 + 2 * token, mean)
    tl.store(stats_T2 + 2 * token + 1, scale)
    weight = tl.load(weight_E + column, mask=inside, other=0.0)
    shift = tl.load(shift_E + column, mask=inside, other=0.0)
    out = centred * scale[:, None] * weight[None, :] + shift[None, :]
    at = token[:, None] * E + column[None, :]
    if DROP:
        out = tl.where(kept(tl.load(seeds), at, threshold), out * factor, 0.0)
    tl.store(out_TE + at, out.to(out_TE.dtype.element_ty), mask=inside[None, :])


@triton.jit(do_not_specialize=["T", "threshold"])
def embed_backward_program(
    dout_TE, word_UE, position_E, segment_2E, weight_E, words_T, positions_T, segments_T, seeds, stats_T2, dtotal_TE,
    parts_P4E, T, threshold, factor, E: tl.constexpr, DROP: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The gradient of each token's sum; those of weight, shift and both segments, summed over this program's tokens."""
    program = tl.program_id(0)
    column = tl.arange(0, COLUMNS)
    inside = column < E
    weight = tl.load(weight_E + column, mask=inside, other=0.0)
    dweight = tl.zeros([COLUMNS], tl.float32)
    dshift = tl.zeros([COLUMNS], tl.float32)
    dfirst = tl.zeros([COLUMNS], tl.float32)
    dsecond = tl.zeros([COLUMNS], tl.float32)
    for begin in range(program * ROWS, T, tl.num_programs(0) * ROWS):
        token = begin + tl.arange(0, ROWS)
        real = token < T
        mask = real[:, None] & inside[None, :]
        at = token[:, None] * E + column[None, :]
        total, segment = _total(
            word_UE, position_E, segment_2E, words_T, positions_T, segments_T, token, real, column, inside, E
        )
        dout = tl.load(dout_TE + at, mask=mask, other=0.0).to(tl.float32)
        if DROP:
            dout = tl.where(kept(tl.load(seeds), at, threshold), dout * factor, 0.0)
        normal, dtotal = norm_backward(dout, total, stats_T2, weight, token, real, mask, E)
        tl.store(dtotal_TE + at, dtotal, mask=mask)
        dweight += tl.sum(dout * normal, 0)
        dshift += tl.sum(dout, 0)
        second = tl.where(segment[:, None] > 0, dtotal, 0.0)
        dsecond += tl.sum(second, 0)
        dfirst += tl.sum(dtotal - second, 0)
    at = parts_P4E + program * 4 * E + column
    tl.store(at, dweight, mask=inside)
    tl.store(at + E, dshift, mask=inside)
    tl.store(at + 2 * E, dfirst, mask=inside)
    tl.store(at + 3 * E, dsecond, mask=inside)


@triton.jit(do_not_specialize=["S"])
def position_sums_program(
    dtotal_TE, bounds_S1, dposition_E, S, E: tl.constexpr, SEQUENCES: tl.constexpr, COLUMNS: tl.constexpr
):
    """The gradient of one position: summed over the sequences that are long enough to have it."""
    position = tl.program_id(0)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros([COLUMNS], tl.float32)
    for begin in range(0, S, SEQUENCES):
        sequence = begin + tl.arange(0, SEQUENCES)
        start = tl.load(bounds_S1 + sequence, mask=sequence < S, other=0)
        end = tl.load(bounds_S1 + sequence + 1, mask=sequence < S, other=0)
        mask = (start + position < end)[:, None] & (column < E)[None, :]
        at = (start + position)[:, None] * E + column[None, :]
        total += tl.sum(tl.load(dtotal_TE + at, mask=mask, other=0.0), 0)
    tl.store(dposition_E + position * E + column, total, mask=column < E)
