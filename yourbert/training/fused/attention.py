"""Self-attention over packed sequences as Triton programs, after FlashAttention-2 (Dao 2023).

A row of 3 E has a token's query, key and value side by side, without their bias, which is added here. Gradients have
the same layout. No row is written by two programs, so the order of every sum is fixed. A program computes a block of
rows of one head of one sequence; programs beyond the end of a sequence do nothing.

Shapes: T rows, E width, D head width; blocks of BLOCK rows of a sequence. span: the longest sequence, rounded up.
"""

from __future__ import annotations

import triton
import triton.language as tl

from yourbert.training.fused.rows import kept


@triton.jit
def _load(qkv_T3E, bias_3E, first, rows, length, at, E: tl.constexpr, D: tl.constexpr):
    """Rows of one head's queries, keys or values, with their bias. at: the column in a row of 3 E where they begin."""
    column = at + tl.arange(0, D)
    x = tl.load(qkv_T3E + (first + rows)[:, None] * (3 * E) + column[None, :], mask=(rows < length)[:, None], other=0.0)
    return (x.to(tl.float32) + tl.load(bias_3E + column)[None, :]).to(qkv_T3E.dtype.element_ty)


@triton.jit
def _query_places(first, rows, span, head, E: tl.constexpr, D: tl.constexpr):
    """The index of the first probability of each query of a head; a query has `span` of them, one per key."""
    return ((first + rows) * (E // D) + head) * span


@triton.jit(do_not_specialize=["T", "site", "threshold"])
def attend_program(
    qkv_T3E, bias_3E, bounds_S1, seeds, out_TE, logsum_HT, T, span, site, threshold, factor, scale,
    E: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr, DROP: tl.constexpr,
):  # fmt: skip
    """out = dropout(softmax(q k' scale)) v. logsum: log2 of each query's sum. scale: multiplied by log2(e)."""
    head, sequence = tl.program_id(1), tl.program_id(2)
    first = tl.load(bounds_S1 + sequence)
    length = tl.load(bounds_S1 + sequence + 1) - first
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    if tl.program_id(0) * BLOCK < length:
        q = _load(qkv_T3E, bias_3E, first, rows, length, head * D, E, D)
        highest = tl.full([BLOCK], float("-inf"), tl.float32)
        norm = tl.zeros([BLOCK], tl.float32)
        out = tl.zeros([BLOCK, D], tl.float32)
        for start in range(0, length, BLOCK):
            columns = start + tl.arange(0, BLOCK)
            k = _load(qkv_T3E, bias_3E, first, columns, length, E + head * D, E, D)
            v = _load(qkv_T3E, bias_3E, first, columns, length, 2 * E + head * D, E, D)
            scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
            scores = tl.where((columns < length)[None, :], scores, float("-inf"))
            higher = tl.maximum(highest, tl.max(scores, 1))
            weights = tl.exp2(scores - higher[:, None])
            shrink = tl.exp2(highest - higher)
            norm = norm * shrink + tl.sum(weights, 1)
            if DROP:
                places = _query_places(first, rows, span, head, E, D)[:, None] + columns[None, :]
                keep = kept(tl.load(seeds + site), places, threshold)
                weights = tl.where(keep, weights, 0.0)
            out = tl.dot(weights.to(v.dtype), v, out * shrink[:, None], input_precision="ieee")
            highest = higher
        out = out * (factor / norm)[:, None]
        at = (first + rows)[:, None] * E + (head * D + tl.arange(0, D))[None, :]
        tl.store(out_TE + at, out.to(out_TE.dtype.element_ty), mask=(rows < length)[:, None])
        tl.store(logsum_HT + head * T + first + rows, highest + tl.log2(norm), mask=rows < length)


@triton.jit
def _store(dqkv_T3E, parts, x, first, rows, length, at, E: tl.constexpr, D: tl.constexpr):
    """Stores rows of a gradient, and its sum over them, the gradient of the bias."""
    column = at + tl.arange(0, D)
    place = (first + rows)[:, None] * (3 * E) + column[None, :]
    tl.store(dqkv_T3E + place, x.to(dqkv_T3E.dtype.element_ty), mask=(rows < length)[:, None])
    tl.store(parts + column, tl.sum(tl.where((rows < length)[:, None], x, 0.0), 0))


@triton.jit
def _load_out(dout_TE, out_TE, logsum_HT, first, rows, length, head, T, E: tl.constexpr, D: tl.constexpr):
    """For a block of queries: the gradient of their output, its dot product with the output, and logsum."""
    at = (first + rows)[:, None] * E + (head * D + tl.arange(0, D))[None, :]
    real = (rows < length)[:, None]
    dout = tl.load(dout_TE + at, mask=real, other=0.0)
    along = tl.sum(dout.to(tl.float32) * tl.load(out_TE + at, mask=real, other=0.0).to(tl.float32), 1)
    return dout, along, tl.load(logsum_HT + head * T + first + rows, mask=rows < length, other=float("inf"))


@triton.jit(do_not_specialize=["T", "site", "threshold"])
def attention_backward_program(
    dout_TE, qkv_T3E, bias_3E, bounds_S1, seeds, out_TE, logsum_HT, dqkv_T3E, parts_P3E, T, span, site, threshold,
    factor, scale, slope, E: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr, MANY: tl.constexpr, DROP: tl.constexpr,
):  # fmt: skip
    """Gradients of the block's queries, keys and values. slope: `scale` without log2(e)."""
    head, sequence = tl.program_id(1), tl.program_id(2)
    first = tl.load(bounds_S1 + sequence)
    length = tl.load(bounds_S1 + sequence + 1) - first
    own = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    parts = parts_P3E + (sequence * tl.num_programs(0) + tl.program_id(0)) * 3 * E
    if tl.program_id(0) * BLOCK < length:
        seed = 0
        if DROP:
            seed = tl.load(seeds + site)
        # First the gradients of the block's keys and values, to which every query of the sequence contributes.
        k = _load(qkv_T3E, bias_3E, first, own, length, E + head * D, E, D)
        v = _load(qkv_T3E, bias_3E, first, own, length, 2 * E + head * D, E, D)
        dk = tl.zeros([BLOCK, D], tl.float32)
        dv = tl.zeros([BLOCK, D], tl.float32)
        dq = tl.zeros([BLOCK, D], tl.float32)
        for start in range(0, length, BLOCK):
            rows = start + tl.arange(0, BLOCK)
            q = _load(qkv_T3E, bias_3E, first, rows, length, head * D, E, D)
            dout, along, logsum = _load_out(dout_TE, out_TE, logsum_HT, first, rows, length, head, T, E, D)
            # Transposed, [keys, queries]: the left operand of the next products is then in registers.
            weights = tl.exp2(tl.dot(k, tl.trans(q), input_precision="ieee") * scale - logsum[None, :])
            weights = tl.where((own < length)[:, None], weights, 0.0)
            dweights = tl.dot(v, tl.trans(dout), input_precision="ieee")
            read = weights
            if DROP:
                keep = kept(seed, _query_places(first, rows, span, head, E, D)[None, :] + own[:, None], threshold)
                read = tl.where(keep, weights * factor, 0.0)
                dweights = tl.where(keep, dweights * factor, 0.0)
            dv = tl.dot(read.to(dout.dtype), dout, dv, input_precision="ieee")
            dscores = (weights * (dweights - along[None, :])).to(q.dtype)
            dk = tl.dot(dscores, q, dk, input_precision="ieee")
            if not MANY:
                dq = tl.dot(tl.trans(dscores), k, dq, input_precision="ieee")
        _store(dqkv_T3E, parts, dk * slope, first, own, length, E + head * D, E, D)
        _store(dqkv_T3E, parts, dv, first, own, length, 2 * E + head * D, E, D)
        if MANY:
            # Then the gradients of the block's queries, which depend on all keys and values.
            q = _load(qkv_T3E, bias_3E, first, own, length, head * D, E, D)
            dout, along, logsum = _load_out(dout_TE, out_TE, logsum_HT, first, own, length, head, T, E, D)
            for start in range(0, length, BLOCK):
                rows = start + tl.arange(0, BLOCK)
                k = _load(qkv_T3E, bias_3E, first, rows, length, E + head * D, E, D)
                v = _load(qkv_T3E, bias_3E, first, rows, length, 2 * E + head * D, E, D)
                weights = tl.exp2(tl.dot(q, tl.trans(k), input_precision="ieee") * scale - logsum[:, None])
                weights = tl.where((rows < length)[None, :], weights, 0.0)
                dweights = tl.dot(dout, tl.trans(v), input_precision="ieee")
                if DROP:
                    keep = kept(seed, _query_places(first, own, span, head, E, D)[:, None] + rows[None, :], threshold)
                    dweights = tl.where(keep, dweights * factor, 0.0)
                dscores = (weights * (dweights - along[:, None])).to(q.dtype)
                dq = tl.dot(dscores, k, dq, input_precision="ieee")
        _store(dqkv_T3E, parts, dq * slope, first, own, length, head * D, E, D)
    else:
        column = head * D + tl.arange(0, D)
        nothing = tl.zeros([D], tl.float32)
        tl.store(parts + column, nothing)
        tl.store(parts + E + column, nothing)
        tl.store(parts + 2 * E + column, nothing)
