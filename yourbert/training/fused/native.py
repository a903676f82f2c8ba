"""The kernels of a fused layer in C, for a CPU; `yourbert/training/fused/plain.py` documents what each computes.

They are called through ctypes with the addresses of contiguous tensors. A sum over rows has the same number of parts on
any number of threads, so that number does not affect the result.
"""

from __future__ import annotations

from ctypes import c_double, c_float, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor

from yourbert.model.attention import round_up
from yourbert.training.fused.compiled import library
from yourbert.training.fused.interface import SPAN_STEP, DropoutSeed, PartialSums, Places, Tables
from yourbert.training.fused.weights import ParameterBuffer

# The number of partial sums over rows; the numbers per part of a sum of squares.
PARTS, SQUARES = 16, 1 << 16
# For each function the number of its tensors, and the types of the numbers after them, integer or float.
SIGNATURES: dict[str, tuple[int, str]] = {
    "add_norm": (8, "iifiif"),
    "add_norm_backward": (7, "iiiiif"),
    "gelu": (4, "ii"),
    "gelu_backward": (4, "iii"),
    "sum_parts": (2, "iiiiii"),
    "attend": (5, "iiiiiiiiif"),
    "attention_backward": (7, "iiiiiiiiif"),
    "embed": (10, "iifiif"),
    "embed_backward": (11, "iiiiif"),
    "position_sums": (3, "iii"),
    "adamw": (5, "ifffffff"),
    "adamw_rows": (6, "iifffffff"),
    "squares": (2, "i"),
}
TYPES = {"i": c_int64, "f": c_float}


class NativeKernels:
    """The kernels for rows in bf16 or fp32. Raises OSError or RuntimeError if they cannot be compiled."""

    def __init__(self, dtype: torch.dtype) -> None:
        self._of = {torch.float32: _typed(False)}
        if dtype == torch.bfloat16:
            self._of[dtype] = _typed(True)

    def _call(self, dtype: torch.dtype, name: str, tensors: tuple[Tensor | None, ...], *numbers: float) -> Any:
        return self._of[dtype][name](*[x if x is None else x.data_ptr() for x in tensors], *numbers)

    def parts(self, last_rows: int, sequences: int, longest: int, width: int, wide: int, like: Tensor) -> PartialSums:
        return PartialSums((PARTS, PARTS, PARTS, sequences), width, wide, like.device)

    def attend(
        self,
        qkv_T3E: Tensor,
        bias_3E: Tensor,
        bounds_S1: Tensor,
        longest: int,
        asked: int,
        heads: int,
        draw: DropoutSeed,
    ) -> tuple[Tensor, Tensor]:
        rows, width = len(qkv_T3E), qkv_T3E.shape[1] // 3
        out_TE, stats_HT2 = qkv_T3E.new_empty(rows, width), bias_3E.new_empty(heads, rows, 2)
        self._call(
            qkv_T3E.dtype, "attend", (qkv_T3E, bias_3E, bounds_S1, out_TE, stats_HT2), rows, len(bounds_S1) - 1, heads,
            width // heads, longest, asked, round_up(longest, SPAN_STEP), *_drawn(draw),
        )  # fmt: skip
        return out_TE, stats_HT2

    def attention_backward(
        self, dout_TE: Tensor, qkv_T3E: Tensor, bias_3E: Tensor, bounds_S1: Tensor, longest: int, asked: int,
        out_TE: Tensor, logsum_HT: Tensor, draw: DropoutSeed, parts_P3E: Tensor,
    ) -> Tensor:  # fmt: skip
        (heads, rows, _), dqkv_T3E = logsum_HT.shape, torch.empty_like(qkv_T3E)
        self._call(
            qkv_T3E.dtype, "attention_backward", (dout_TE, qkv_T3E, bias_3E, bounds_S1, logsum_HT, dqkv_T3E, parts_P3E),
            rows, len(bounds_S1) - 1, heads, dout_TE.shape[1] // heads, longest, asked, round_up(longest, SPAN_STEP),
            *_drawn(draw),
        )  # fmt: skip
        return dqkv_T3E

    def add_norm(
        self,
        x_TE: Tensor,
        y_TE: Tensor,
        bias_E: Tensor,
        weight_E: Tensor,
        shift_E: Tensor,
        eps: float,
        draw: DropoutSeed,
    ) -> tuple[Tensor, Tensor, Tensor]:
        out_TE, sum_TE, stats_T2 = torch.empty_like(x_TE), torch.empty_like(x_TE), bias_E.new_empty(len(x_TE), 2)
        tensors = (x_TE, y_TE, bias_E, weight_E, shift_E, out_TE, sum_TE, stats_T2)
        self._call(x_TE.dtype, "add_norm", tensors, *x_TE.shape, eps, *_drawn(draw))
        return out_TE, sum_TE, stats_T2

    def add_norm_backward(
        self, dout_TE: Tensor, sum_TE: Tensor, stats_T2: Tensor, weight_E: Tensor, draw: DropoutSeed, parts_P3E: Tensor
    ) -> tuple[Tensor, Tensor]:
        dx_TE, dy_TE = torch.empty_like(dout_TE), torch.empty_like(dout_TE)
        tensors = (dout_TE, sum_TE, stats_T2, weight_E, dx_TE, dy_TE, parts_P3E)
        self._call(dout_TE.dtype, "add_norm_backward", tensors, *dout_TE.shape, len(parts_P3E), *_drawn(draw))
        return dx_TE, dy_TE

    def gelu(self, x_TF: Tensor, bias_F: Tensor) -> tuple[Tensor, Tensor]:
        out_TF = torch.empty_like(x_TF)
        # The derivative overwrites the input, which nothing else reads.
        self._call(x_TF.dtype, "gelu", (x_TF, bias_F, out_TF, x_TF), *x_TF.shape)
        return out_TF, x_TF

    def gelu_backward(self, dout_TF: Tensor, kept_TF: Tensor, bias_F: Tensor, parts_PF: Tensor) -> Tensor:
        dx_TF = torch.empty_like(dout_TF)
        self._call(dout_TF.dtype, "gelu_backward", (dout_TF, kept_TF, dx_TF, parts_PF), *dout_TF.shape, len(parts_PF))
        return dx_TF

    def sums(self, found: PartialSums) -> Tensor:
        out = found.memory.new_empty(found.columns)
        self._call(torch.float32, "sum_parts", (found.memory, out), *found.counts, found.width, found.wide)
        return out

    def embed(
        self, tables: Tables, weight_E: Tensor, shift_E: Tensor, places: Places, draw: DropoutSeed, eps: float,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        rows, width = len(places[0]), len(weight_E)
        out_TE, stats_T2 = weight_E.new_empty(rows, width, dtype=dtype), weight_E.new_empty(rows, 2)
        tensors = (*tables, weight_E, shift_E, *places, out_TE, stats_T2)
        self._call(dtype, "embed", tensors, rows, width, eps, *_drawn(draw))
        return out_TE, stats_T2

    def embed_backward(
        self, dout_TE: Tensor, tables: Tables, weight_E: Tensor, places: Places, draw: DropoutSeed, stats_T2: Tensor
    ) -> tuple[Tensor, Tensor]:
        rows, width = dout_TE.shape
        dtotal_TE, parts_P4E = torch.empty_like(dout_TE, dtype=torch.float32), stats_T2.new_empty(PARTS, 4 * width)
        tensors = (dout_TE, *tables, weight_E, *places, stats_T2, dtotal_TE, parts_P4E)
        self._call(dout_TE.dtype, "embed_backward", tensors, rows, width, PARTS, *_drawn(draw))
        return dtotal_TE, parts_P4E.sum(0).view(4, width)

    def position_sums(self, dtotal_TE: Tensor, bounds_S1: Tensor, out_E: Tensor) -> None:
        positions, width = out_E.shape
        tensors = (dtotal_TE, bounds_S1, out_E)
        self._call(torch.float32, "position_sums", tensors, positions, len(bounds_S1) - 1, width)

    def word_gradient(self, dtotal_TE: Tensor, words_T: Tensor, rows: int, pad: int) -> Tensor:
        """A sparse gradient, because a step reads only a small part of the table."""
        dtotal_TE[words_T == pad] = 0
        return torch.sparse_coo_tensor(words_T[None], dtotal_TE, (rows, dtotal_TE.shape[1]), check_invariants=False)

    def norm(self, gradients: list[Tensor]) -> Tensor:
        squares = 0.0
        for gradient in gradients:
            gradient = gradient.values() if gradient.is_sparse else gradient
            count = gradient.numel()
            parts = torch.empty(-(-count // SQUARES), dtype=torch.float64)
            squares += self._call(gradient.dtype, "squares", (gradient, parts), count)
        return torch.tensor(squares**0.5, dtype=torch.float32)

    def adamw(
        self, buffer: ParameterBuffer, lr: Tensor, scale: Tensor, stopped: Tensor, corrections: Tensor,
        betas: tuple[float, float], eps: float, decay: float,
    ) -> None:  # fmt: skip
        if stopped:
            return
        rate, (first, second) = float(lr), corrections.tolist()
        numbers = (1 / float(scale), 1 - rate * decay, rate / first, second**-0.5, *betas, eps)
        assert buffer.gradient_N is not None, "only what has a gradient is moved"
        if buffer.gradient_N.is_sparse:
            self._adamw_of_rows(buffer, buffer.gradient_N, numbers)
            return
        tensors = (buffer.master_N, buffer.gradient_N, buffer.mean_N, buffer.square_N, buffer.rounded_N)
        self._call(buffer.gradient_N.dtype, "adamw", tensors, buffer.master_N.numel(), *numbers)

    def _adamw_of_rows(self, buffer: ParameterBuffer, gradient_UE: Tensor, numbers: tuple[float, ...]) -> None:
        """AdamW for a table with sparse gradients; the moments of rows that never had a gradient are not read."""
        rows, width = gradient_UE.shape
        used_R = gradient_UE.indices()[0]
        place_U = torch.full((rows,), -1, dtype=torch.int32)
        place_U[used_R] = torch.arange(len(used_R), dtype=torch.int32)
        if buffer.met_U is None:
            met_U = buffer.mean_N.view(rows, width).any(1) | buffer.square_N.view(rows, width).any(1)
            buffer.met_U = met_U.to(torch.uint8)
        tensors = (buffer.master_N, gradient_UE.values(), buffer.mean_N, buffer.square_N, place_U, buffer.met_U)
        self._call(torch.float32, "adamw_rows", tensors, rows, width, *numbers)


def _typed(bf16: bool) -> dict[str, Any]:
    functions, kernels = {}, library(bf16)
    for name, (tensors, numbers) in SIGNATURES.items():
        functions[name] = function = getattr(kernels, name)
        function.argtypes = [c_void_p] * tensors + [TYPES[kind] for kind in numbers]
        function.restype = c_double if name == "squares" else None
    return functions


def _drawn(draw: DropoutSeed) -> tuple[int, int, float]:
    """The seed, the number of dropped elements of 65536, and the factor of the others."""
    return (int(draw.seeds[draw.site]) if draw.dropped else 0), draw.dropped, draw.factor
