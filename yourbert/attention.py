"""Self-attention over packed sequences: one interface, several kernels, one equality test.

A batch is packed: its sequences lie one after the other along T, and a `Layout`, built once per batch, says where.
`attend` then computes softmax(q k' / sqrt(D)) v (Vaswani et al. 2017) inside each sequence. The kernels:

- `grouped`: sequences of like length are gathered into small padded blocks; explicit matrix products, with the
  textbook backward. Every device and dtype. On a CPU and short text this is several times faster than
  `scaled_dot_product_attention`, and the dropout of probabilities draws from a named generator.
- `flash`: PyTorch's variable-length flash attention; CUDA, half precision. Its tests are marked `cuda`.

Shapes: T tokens, S sequences, E hidden width, H heads, D head width, G groups, N sequences of a group, L their padded
width, M rows of the gathered blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Kernel = Literal["auto", "grouped", "flash"]
Indices = npt.NDArray[np.int64]

# Lengths are rounded up to a multiple of this: vector units run full, and few distinct shapes mean that the matrix
# library seldom builds a new kernel (0.3-2 ms each on a CPU). A masked score costs far less than that.
WIDTH_STEP = 32
# Most scores per head in one block, so that a block's scores stay in the processor's cache between operations.
BLOCK_SCORES = 1 << 16


# Rows are filled up to a multiple of this: a matrix library builds a kernel per distinct shape (1-2 ms each on a
# CPU), and every batch of packed text would otherwise bring a dozen new ones.
ROW_STEP = 32


@dataclass(frozen=True, eq=False)
class Group:
    """N sequences in a padded block of width L, whose slots are `first .. first + N * L` among all blocks' slots.

    bias_N11L: 0 where a key exists and -inf where it is padding; None when nothing is padded.
    """

    sequences: int
    width: int
    first: int
    bias_N11L: Tensor | None


@dataclass(frozen=True, eq=False)
class RowMaps:
    """Where rows of width D lie: in a packed [T, parts * H * D] tensor, and in the blocks [parts, N, H, L, D].

    into_M: packed row of each block row (a padded slot repeats its sequence's first token). padding_P: block rows that
    are padding. back_T: block row of each packed row; rows of no sequence read the one zero row kept after the blocks.
    """

    into_M: Tensor
    padding_P: Tensor
    back_T: Tensor


@dataclass(eq=False)
class Layout:
    """Where the sequences of a packed batch lie; built once per batch from host integers.

    offsets: S + 1 rising integers, sequence s being tokens offsets[s] .. offsets[s + 1]. rows: length of the packed
    tensors; rows from `tokens` on are filler and belong to no sequence.
    """

    offsets: tuple[int, ...]
    rows: int
    starts_S: Tensor
    lengths_S: Tensor
    sequence_T: Tensor
    bounds_S1: Tensor
    groups: tuple[Group, ...]
    slots: tuple[tuple[Indices, npt.NDArray[np.bool_]], ...]
    _maps: dict[tuple[int, int], RowMaps] = field(default_factory=dict)

    @property
    def sequences(self) -> int:
        return len(self.offsets) - 1

    @property
    def tokens(self) -> int:
        return self.offsets[-1]

    @property
    def longest(self) -> int:
        return max(b - a for a, b in pairwise(self.offsets))

    @classmethod
    def build(cls, offsets: Indices | Sequence[int], rows: int, device: torch.device | str = "cpu") -> Layout:
        """Lays out sequences; each has at least one token and `rows` is at least `offsets[-1]`."""
        bounds = np.asarray(offsets, np.int64)
        lengths = np.diff(bounds)
        assert bounds[0] == 0 and len(lengths) and lengths.min() >= 1, "sequences are not empty and start at 0"
        assert rows >= bounds[-1], "a packed tensor holds all its tokens"
        slots, groups, first = [], [], 0
        for members in _blocks(lengths):
            width = _up(int(lengths[members].max()), WIDTH_STEP)
            column = np.arange(width)
            real_NL = column < lengths[members, None]
            slots.append((bounds[members, None] + np.where(real_NL, column, 0), real_NL))
            bias = None if real_NL.all() else _tensor(np.where(real_NL, 0, -np.inf)[:, None, None].astype("f4"), device)
            groups.append(Group(len(members), width, first, bias))
            first += len(members) * width
        return cls(
            offsets=tuple(bounds.tolist()),
            rows=rows,
            starts_S=_tensor(bounds[:-1], device),
            lengths_S=_tensor(lengths, device),
            sequence_T=_tensor(np.repeat(np.arange(len(lengths)), lengths), device),
            bounds_S1=_tensor(bounds.astype(np.int32), device),
            groups=tuple(groups),
            slots=tuple(slots),
        )

    def maps(self, parts: int, heads: int) -> RowMaps:
        """Row maps between packed [T, parts * H * D] and the blocks; made at first use, kept for all layers."""
        if (parts, heads) not in self._maps:
            self._maps[parts, heads] = self._make_maps(parts, heads)
        return self._maps[parts, heads]

    def _make_maps(self, parts: int, heads: int) -> RowMaps:
        part, head = np.arange(parts)[:, None, None, None], np.arange(heads)[:, None]
        into, real = [], []
        for tokens_NL, real_NL in self.slots:
            rows_PNHL = (tokens_NL[:, None, :] * parts + part) * heads + head
            into.append(rows_PNHL.ravel())
            real.append(np.broadcast_to(real_NL[:, None, :], rows_PNHL.shape).ravel())
        into_M, real_M = np.concatenate(into), np.concatenate(real)
        back_T = np.full(self.rows * parts * heads, len(into_M))
        back_T[into_M[real_M]] = np.flatnonzero(real_M)
        device = self.starts_S.device
        return RowMaps(_tensor(into_M, device), _tensor(np.flatnonzero(~real_M), device), _tensor(back_T, device))


@dataclass(eq=False)
class Packed:
    """A batch without padding: its sequences one after the other.

    tokens_T, segments_T, positions_T: int64. Rows from `layout.tokens` on are filler (word piece 0): no sequence
    attends to them, no pooling reads them, and while no loss does either, their gradient is exactly zero.
    """

    tokens_T: Tensor
    segments_T: Tensor
    positions_T: Tensor
    layout: Layout

    @classmethod
    def from_numpy(
        cls,
        tokens: npt.NDArray[np.integer[Any]],
        segments: npt.NDArray[np.integer[Any]],
        positions: npt.NDArray[np.integer[Any]],
        offsets: npt.NDArray[np.integer[Any]],
        device: torch.device | str = "cpu",
    ) -> Packed:
        """Packs host arrays: sequence s is tokens[offsets[s]:offsets[s + 1]], `offsets` being S + 1 long."""
        assert len(tokens) == len(segments) == len(positions) == offsets[-1], "arrays and offsets agree"
        rows = _up(len(tokens), ROW_STEP)

        def place(array: npt.NDArray[np.integer[Any]]) -> Tensor:
            filled = np.zeros(rows, np.int64)
            filled[: len(array)] = array
            return torch.from_numpy(filled).to(device, non_blocking=True)

        layout = Layout.build(offsets.astype(np.int64), rows, device)
        return cls(place(tokens), place(segments), place(positions), layout)


def _tensor(array: npt.NDArray[Any], device: torch.device | str) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device, non_blocking=True)


def _up(count: int, step: int) -> int:
    """`count` rounded up to a multiple of `step`."""
    return -(-count // step) * step


def _blocks(lengths: Indices) -> list[Indices]:
    """Sequence numbers of each block: sequences of equal rounded width, at most `BLOCK_SCORES` scores together."""
    widths = -(-lengths // WIDTH_STEP) * WIDTH_STEP
    blocks = []
    for width in np.unique(widths):
        members, most = np.flatnonzero(widths == width), max(1, BLOCK_SCORES // int(width) ** 2)
        blocks += [members[start : start + most] for start in range(0, len(members), most)]
    return blocks


def keep_mask(shape: Sequence[int], p: float, like: Tensor, rng: torch.Generator) -> tuple[Tensor, float]:
    """Dropout's mask of ones and zeros in `like`'s dtype and device, and the factor 1 / (1 - rate) that goes with it.

    One 64-bit draw serves four elements, three times cheaper on a CPU than `F.dropout`. The rate is p rounded to
    1/65536 and the factor fits it exactly.
    """
    count = math.prod(shape)
    bits = torch.empty(-(-count // 4), dtype=torch.int64, device=like.device)
    bits.random_(-(2**63), None, generator=rng)
    dropped = round(p * 65536)
    keep = torch.empty(tuple(shape), dtype=like.dtype, device=like.device)
    torch.ge(bits.view(torch.int16)[:count].view(keep.shape), dropped - 32768, out=keep)
    return keep, 65536 / (65536 - dropped)


def dropout(x: Tensor, p: float, rng: torch.Generator | None) -> Tensor:
    """Drops elements of `x` with probability p and rescales the rest; p of 0 returns `x` and needs no generator."""
    if p == 0:
        return x
    assert rng is not None, "dropout draws from a generator"
    keep, factor = keep_mask(x.shape, p, x, rng)
    return x * keep.mul_(factor)


def attend(
    qkv_T3E: Tensor,
    layout: Layout,
    heads: int,
    p: float = 0.0,
    rng: torch.Generator | None = None,
    kernel: Kernel = "auto",
) -> Tensor:
    """Attention inside each sequence: queries, keys and values side by side in [T, 3 * E] -> context [T, E].

    p: dropout of the probabilities, drawn from `rng`. Filler rows of the result are zero, and so is their gradient.
    """
    assert p == 0 or rng is not None, "dropout draws from a generator"
    if kernel == "auto":
        kernel = "flash" if _flash_fits(qkv_T3E, p, rng) else "grouped"
    if kernel == "flash":
        return _flash(qkv_T3E, layout, heads, p)
    context_TE: Tensor = _Grouped.apply(qkv_T3E, layout, heads, p, rng)  # type: ignore[no-untyped-call]
    return context_TE


def _flash_fits(qkv: Tensor, p: float, rng: torch.Generator | None) -> bool:
    """Flash attention wants CUDA and half precision, and draws its dropout from the device's default generator only."""
    if not qkv.is_cuda or qkv.dtype not in (torch.bfloat16, torch.float16):
        return False
    return p == 0 or rng is torch.cuda.default_generators[qkv.get_device()]


def _flash(qkv_T3E: Tensor, layout: Layout, heads: int, p: float) -> Tensor:
    """PyTorch's variable-length flash attention (Dao 2023); never run without a GPU: tests are marked `cuda`."""
    used = qkv_T3E[: layout.tokens].view(layout.tokens, 3, heads, -1)
    q_THD, k_THD, v_THD = used.unbind(1)
    bounds, longest = layout.bounds_S1, layout.longest
    context_THD = torch.ops.aten._flash_attention_forward(
        q_THD, k_THD, v_THD, bounds, bounds, longest, longest, p, False, False
    )[0]
    filler = (0, 0, 0, layout.rows - layout.tokens)
    return torch.nn.functional.pad(context_THD.flatten(1), filler)


class _Grouped(torch.autograd.Function):
    """Attention in padded blocks. One gather lays out all blocks, one gather brings the context back to packed rows.

    Written as one function because autograd's own gather backward adds row by row into zeros, and because the
    products can then write straight into the buffers that the gathers read.
    """

    @staticmethod
    def forward(
        ctx: Any, qkv_T3E: Tensor, layout: Layout, heads: int, p: float, rng: torch.Generator | None
    ) -> Tensor:
        head_width = qkv_T3E.shape[1] // (3 * heads)
        blocks_MD = qkv_T3E.reshape(-1, head_width).index_select(0, layout.maps(3, heads).into_M)
        one = layout.maps(1, heads)
        context_MD = _with_zero_row(len(one.into_M), blocks_MD)
        saved, factor = [], 1.0
        for group in layout.groups:
            q_BLD, k_BLD, v_BLD = _views(blocks_MD, group, heads, 3)
            scores_BLL = _product(q_BLD, k_BLD.mT, head_width**-0.5)
            if group.bias_N11L is not None:
                scores_BLL.view(group.sequences, heads, group.width, -1).add_(group.bias_N11L.to(scores_BLL.dtype))
            probabilities_BLL = torch.softmax(scores_BLL, -1)
            saved.append(probabilities_BLL)
            if p > 0:
                assert rng is not None
                keep_BLL, factor = keep_mask(scores_BLL.shape, p, scores_BLL, rng)
                saved.append(keep_BLL)
                probabilities_BLL = torch.mul(probabilities_BLL, keep_BLL, out=scores_BLL)
            _product(probabilities_BLL, v_BLD, factor, out=_views(context_MD, group, heads, 1)[0])
        ctx.save_for_backward(blocks_MD, *saved)
        ctx.facts = layout, heads, factor
        return context_MD.index_select(0, one.back_T).view(len(qkv_T3E), -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        layout, heads, factor = ctx.facts
        blocks_MD, *saved = ctx.saved_tensors
        head_width = blocks_MD.shape[1]
        tape, dropped = iter(saved), len(saved) > len(layout.groups)
        one = layout.maps(1, heads)
        dcontext_MD = grads[0].reshape(-1, head_width).index_select(0, one.into_M).index_fill_(0, one.padding_P, 0)
        dblocks_MD = _with_zero_row(len(blocks_MD), blocks_MD)
        for group in layout.groups:
            q_BLD, k_BLD, v_BLD = _views(blocks_MD, group, heads, 3)
            dq_BLD, dk_BLD, dv_BLD = _views(dblocks_MD, group, heads, 3)
            (dcontext_BLD,) = _views(dcontext_MD, group, heads, 1)
            probabilities_BLL, dprobabilities_BLL = next(tape), _product(dcontext_BLD, v_BLD.mT, factor)
            applied_BLL = probabilities_BLL
            if dropped:
                keep_BLL = next(tape)
                applied_BLL = probabilities_BLL * keep_BLL
                dprobabilities_BLL.mul_(keep_BLL)
            _product(applied_BLL.mT, dcontext_BLD, factor, out=dv_BLD)
            dscores_BLL = torch._softmax_backward_data(
                dprobabilities_BLL, probabilities_BLL, -1, probabilities_BLL.dtype
            )
            _product(dscores_BLL, k_BLD, head_width**-0.5, out=dq_BLD)
            _product(dscores_BLL.mT, q_BLD, head_width**-0.5, out=dk_BLD)
        dqkv = dblocks_MD.index_select(0, layout.maps(3, heads).back_T)
        return dqkv.view(layout.rows, -1), None, None, None, None


def _with_zero_row(rows: int, like: Tensor) -> Tensor:
    """An uninitialised [rows + 1, D] whose last row is zero."""
    buffer_MD = like.new_empty(rows + 1, like.shape[1])
    buffer_MD[-1] = 0
    return buffer_MD


def _views(blocks_MD: Tensor, group: Group, heads: int, parts: int) -> tuple[Tensor, ...]:
    """A group's `parts` views [N * H, L, D] into the blocks' buffer."""
    rows = group.sequences * heads * group.width
    start = group.first * heads * parts
    block_MD = blocks_MD[start : start + parts * rows]
    return block_MD.view(parts, group.sequences * heads, group.width, -1).unbind()


def _product(a_BXY: Tensor, b_BYZ: Tensor, factor: float, out: Tensor | None = None) -> Tensor:
    """`factor * a @ b`, into `out` where given."""
    if out is None:
        out = a_BXY.new_empty(len(a_BXY), a_BXY.shape[1], b_BYZ.shape[2])
    return torch.baddbmm(out, a_BXY, b_BYZ, beta=0, alpha=factor, out=out)
