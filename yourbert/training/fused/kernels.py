"""The kernels of a fused layer in Triton; `yourbert/training/fused/plain.py` documents what each computes.

Block sizes and numbers of warps were chosen on an H200 (LOG.md).
"""

from __future__ import annotations

import math

import torch
import triton
from torch import Tensor

from yourbert.model.attention import round_up
from yourbert.training.fused import plain
from yourbert.training.fused.adamw import adamw_program
from yourbert.training.fused.attention import attend_program, attention_backward_program
from yourbert.training.fused.embed import embed_backward_program, embed_program, position_sums_program
from yourbert.training.fused.interface import SPAN_STEP, DropoutSeed, PartialSums, Places, Tables
from yourbert.training.fused.rows import (
    add_norm_backward_program,
    add_norm_program,
    gelu_backward_program,
    gelu_program,
    sums_program,
)
from yourbert.training.fused.weights import ParameterBuffer

# The number of programs that leave partial sums over rows: at most a few per multiprocessor of a large GPU. With few
# rows, each program takes some of them, because the partial sums must be read again.
NORM_PARTS, ROWS_OF_NORM = 528, 2
GELU_PARTS, ROWS_OF_GELU = 264, 4
LOG2_E = math.log2(math.e)


def parts(last_rows: int, sequences: int, longest: int, width: int, wide: int, like: Tensor) -> PartialSums:
    norm = _norm_parts(last_rows)
    gelu = min(GELU_PARTS, triton.cdiv(last_rows, ROWS_OF_GELU))
    counts = (norm, gelu, norm, sequences * triton.cdiv(longest, _block(longest)))
    return PartialSums(counts, width, wide, like.device)


def _norm_parts(rows: int) -> int:
    return min(NORM_PARTS, int(triton.cdiv(rows, ROWS_OF_NORM)))


def attend(
    qkv_T3E: Tensor, bias_3E: Tensor, bounds_S1: Tensor, longest: int, asked: int, heads: int, draw: DropoutSeed
) -> tuple[Tensor, Tensor]:
    rows, width = len(qkv_T3E), qkv_T3E.shape[1] // 3
    out_TE, logsum_HT = qkv_T3E.new_empty(rows, width), bias_3E.new_empty(heads, rows)
    block, span = _block(longest), round_up(longest, SPAN_STEP)
    attend_program[triton.cdiv(longest, block), heads, len(bounds_S1) - 1](
        qkv_T3E, bias_3E, bounds_S1, draw.seeds, out_TE, logsum_HT, rows, span, draw.site, draw.dropped, draw.factor,
        (width // heads) ** -0.5 * LOG2_E, E=width, D=width // heads, BLOCK=block, DROP=draw.dropped > 0,
        num_warps=4, num_stages=2,
    )  # fmt: skip
    return out_TE, logsum_HT


def attention_backward(
    dout_TE: Tensor, qkv_T3E: Tensor, bias_3E: Tensor, bounds_S1: Tensor, longest: int, asked: int, out_TE: Tensor,
    logsum_HT: Tensor, draw: DropoutSeed, parts_P3E: Tensor,
) -> Tensor:  # fmt: skip
    heads, rows = logsum_HT.shape
    width, block = dout_TE.shape[1], _block(longest)
    dqkv_T3E, slope = torch.empty_like(qkv_T3E), (width // heads) ** -0.5
    attention_backward_program[triton.cdiv(longest, block), heads, len(bounds_S1) - 1](
        dout_TE, qkv_T3E, bias_3E, bounds_S1, draw.seeds, out_TE, logsum_HT, dqkv_T3E, parts_P3E, rows,
        round_up(longest, SPAN_STEP), draw.site, draw.dropped, draw.factor, slope * LOG2_E, slope, E=width,
        D=width // heads, BLOCK=block, MANY=longest > block, DROP=draw.dropped > 0, num_warps=4, num_stages=1,
    )  # fmt: skip
    return dqkv_T3E


def _block(longest: int) -> int:
    """The number of rows of a sequence per program."""
    return min(64, max(16, int(triton.next_power_of_2(longest))))


def add_norm(
    x_TE: Tensor, y_TE: Tensor, bias_E: Tensor, weight_E: Tensor, shift_E: Tensor, eps: float, draw: DropoutSeed
) -> tuple[Tensor, Tensor, Tensor]:
    rows, width = x_TE.shape
    out_TE, sum_TE, stats_T2 = torch.empty_like(x_TE), torch.empty_like(x_TE), bias_E.new_empty(rows, 2)
    add_norm_program[(rows,)](
        x_TE, y_TE, bias_E, weight_E, shift_E, draw.seeds, out_TE, sum_TE, stats_T2, rows, draw.site, draw.dropped,
        draw.factor, eps, E=width, DROP=draw.dropped > 0, COLUMNS=triton.next_power_of_2(width),
    )  # fmt: skip
    return out_TE, sum_TE, stats_T2


def add_norm_backward(
    dout_TE: Tensor, sum_TE: Tensor, stats_T2: Tensor, weight_E: Tensor, draw: DropoutSeed, parts_P3E: Tensor
) -> tuple[Tensor, Tensor]:
    rows, width = dout_TE.shape
    dx_TE, dy_TE = torch.empty_like(dout_TE), torch.empty_like(dout_TE)
    add_norm_backward_program[(len(parts_P3E),)](
        dout_TE, sum_TE, stats_T2, weight_E, draw.seeds, dx_TE, dy_TE, parts_P3E, rows, draw.site, draw.dropped,
        draw.factor, E=width, DROP=draw.dropped > 0, ROWS=1 if len(parts_P3E) < NORM_PARTS else 2,
        COLUMNS=triton.next_power_of_2(width),
    )  # fmt: skip
    return dx_TE, dy_TE


def gelu(x_TF: Tensor, bias_F: Tensor) -> tuple[Tensor, Tensor]:
    out_TF, block = torch.empty_like(x_TF), 1024
    gelu_program[(triton.cdiv(x_TF.numel(), block),)](x_TF, bias_F, out_TF, x_TF.numel(), E=x_TF.shape[1], BLOCK=block)
    return out_TF, x_TF


def gelu_backward(dout_TF: Tensor, kept_TF: Tensor, bias_F: Tensor, parts_PF: Tensor) -> Tensor:
    rows, wide = kept_TF.shape
    few = len(parts_PF) < GELU_PARTS
    dx_TF, columns = torch.empty_like(kept_TF), min(512 if few else 1024, triton.next_power_of_2(wide))
    gelu_backward_program[len(parts_PF), triton.cdiv(wide, columns)](
        dout_TF, kept_TF, bias_F, dx_TF, parts_PF, rows, E=wide, ROWS=1 if few else 2, COLUMNS=columns
    )
    return dx_TF


def embed(
    tables: Tables, weight_E: Tensor, shift_E: Tensor, places: Places, draw: DropoutSeed, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    rows, width = len(places[0]), len(weight_E)
    out_TE, stats_T2 = weight_E.new_empty(rows, width, dtype=dtype), weight_E.new_empty(rows, 2)
    embed_program[(rows,)](
        *tables, weight_E, shift_E, *places, draw.seeds, out_TE, stats_T2, rows, draw.dropped, draw.factor, eps,
        E=width, DROP=draw.dropped > 0, COLUMNS=triton.next_power_of_2(width),
    )  # fmt: skip
    return out_TE, stats_T2


def embed_backward(
    dout_TE: Tensor, tables: Tables, weight_E: Tensor, places: Places, draw: DropoutSeed, stats_T2: Tensor
) -> tuple[Tensor, Tensor]:
    rows, width = dout_TE.shape
    parts_P4E = stats_T2.new_empty(_norm_parts(rows), 4 * width)
    dtotal_TE = torch.empty_like(dout_TE, dtype=stats_T2.dtype)
    embed_backward_program[(len(parts_P4E),)](
        dout_TE, *tables, weight_E, *places, draw.seeds, stats_T2, dtotal_TE, parts_P4E, rows, draw.dropped,
        draw.factor, E=width, DROP=draw.dropped > 0, ROWS=1 if len(parts_P4E) < NORM_PARTS else 2,
        COLUMNS=triton.next_power_of_2(width),
    )  # fmt: skip
    return dtotal_TE, parts_P4E.sum(0).view(4, width)


def position_sums(dtotal_TE: Tensor, bounds_S1: Tensor, out_E: Tensor) -> None:
    positions, width = out_E.shape
    columns = min(256, triton.next_power_of_2(width))
    position_sums_program[positions, triton.cdiv(width, columns)](
        dtotal_TE, bounds_S1, out_E, len(bounds_S1) - 1, E=width, SEQUENCES=16, COLUMNS=columns
    )


def sums(found: PartialSums) -> Tensor:
    out, columns = found.memory.new_empty(found.columns), 32
    sums_program[(found.columns // columns,)](
        found.memory, out, *found.counts, E=found.width, F=found.wide, ROWS=128, COLUMNS=columns
    )
    return out


norm, word_gradient = plain.norm, plain.word_gradient


def adamw(
    buffer: ParameterBuffer, lr: Tensor, scale: Tensor, stopped: Tensor, corrections: Tensor,
    betas: tuple[float, float], eps: float, decay: float,
) -> None:  # fmt: skip
    count, block = buffer.master_N.numel(), 1024
    adamw_program[(triton.cdiv(count, block),)](
        buffer.master_N, buffer.gradient_N, buffer.mean_N, buffer.square_N, buffer.copy_N, lr, scale, stopped,
        corrections, count, *betas, eps, decay, COPY=buffer.rounded_N is not None, BLOCK=block,
    )  # fmt: skip
