"""Self-attention over packed sequences: one function with two kernels that compute the same.

A batch is packed: its sequences are concatenated along T, and a `Layout`, built once per batch, has their offsets.
`attend` computes softmax(q k' / sqrt(D)) v (Vaswani et al. 2017) within each sequence. The kernels:

- `grouped`: sequences of similar length are gathered into small padded blocks, with explicit matrix products and a
  hand-written backward. It works on every device and dtype. On a CPU with short texts it is several times faster than
  `scaled_dot_product_attention`, and its dropout draws from a given generator.
- `flash`: PyTorch's flash attention for packed sequences; CUDA and half precision only. Its tests are marked `cuda`.

The implementation of attention in each part of the library:

    evaluation, prediction   `attend`: flash where it is supported, else grouped
    training, plain layers   the same; grouped with `deterministic: true`, which needs a fixed order of sums
    training, fused layers   Triton (`training/fused/attention.py`) or C (`training/fused/csrc/attention.c`)
    their reference          `training/fused/plain.py`, a loop over sequences
    export to ONNX           `deploy/export/padded.py`

Shapes: T rows of a packed batch, S sequences, E hidden width, H heads, D head width. In a block: N sequences, L their
padded length, B = N * H. Over all blocks: M rows of width D, P of them padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from yourbert.model.dropout import keep_mask

Kernel = Literal["auto", "grouped", "flash"]
Integers = npt.NDArray[np.integer[Any]]

# oneDNN generates a kernel for every new shape (0.3 to 2 ms each on a CPU), and packed text would cause a dozen new
# shapes per batch. So rows and widths are rounded up, which also fills vector units. Rows are rounded up to 16, not 32:
# filler rows pass through every matrix product, and with 32 an average of 16 in 400 rows would be filler.
ROW_STEP = 16
WIDTH_STEP = 32
# The most scores per head in one block; it bounds the memory for long texts, and keeps a block in the cache.
BLOCK_SCORES = 1 << 16


@dataclass(frozen=True, eq=False)
class Group:
    """N sequences in a block of width L; it has the slots first .. first + N * L of all blocks.

    bias_N11L: 0 for a key and -inf for padding; None if nothing is padded.
    """

    sequences: int
    width: int
    first: int
    bias_N11L: Tensor | None


@dataclass(frozen=True, eq=False)
class RowMaps:
    """Index maps between the rows of width D of a packed [T, parts * H * D] and of blocks [parts, N, H, L, D].

    into_M: the packed row of each block row; for padding, that of the sequence's first token. padding_P: the block rows
    that are padding, or a mask of them. back_T: the block row of each packed row; for filler, the zero row after the
    blocks.
    """

    into_M: Tensor
    padding_P: Tensor
    back_T: Tensor


@dataclass(eq=False)
class Layout:
    """The layout of a packed batch, built once per batch from integers on the host.

    offsets: S + 1 increasing integers; sequence s has the tokens offsets[s] .. offsets[s + 1]. rows: the length of the
    packed tensors; rows from `tokens` on are filler and belong to no sequence.
    """

    offsets: tuple[int, ...]
    rows: int
    starts_S: Tensor
    lengths_S: Tensor
    sequence_T: Tensor
    bounds_S1: Tensor
    _maps: dict[tuple[int, int], RowMaps] = field(default_factory=dict)

    @property
    def sequences(self) -> int:
        return len(self.offsets) - 1

    @property
    def tokens(self) -> int:
        return self.offsets[-1]

    @cached_property
    def longest(self) -> int:
        return max(end - start for start, end in pairwise(self.offsets))

    @classmethod
    def build(cls, offsets: Integers | Sequence[int], rows: int, device: torch.device | str) -> Layout:
        """The layout of sequences of one or more tokens each. rows: at least `offsets[-1]`."""
        bounds = np.asarray(offsets, np.int64)
        lengths = np.diff(bounds)
        assert bounds[0] == 0 and len(lengths) and lengths.min() >= 1, "sequences of at least one token"
        assert rows >= bounds[-1], "a packed tensor holds all its tokens"
        return cls(
            offsets=tuple(bounds.tolist()),
            rows=rows,
            starts_S=_tensor(bounds[:-1], device),
            lengths_S=_tensor(lengths, device),
            sequence_T=_tensor(np.repeat(np.arange(len(lengths)), lengths), device),
            bounds_S1=_tensor(bounds.astype(np.int32), device),
        )

    @cached_property
    def slots(self) -> tuple[tuple[Integers, npt.NDArray[np.bool_]], ...]:
        """For each group, on the host: the token of each slot, and whether the slot is not padding, both [N, L]."""
        bounds, slots = np.asarray(self.offsets), []
        lengths = np.diff(bounds)
        for members in _blocks(lengths):
            column = np.arange(round_up(int(lengths[members[0]]), WIDTH_STEP))
            real_NL = column < lengths[members, None]
            slots.append((bounds[members, None] + np.where(real_NL, column, 0), real_NL))
        return tuple(slots)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The blocks of the grouped kernel."""
        groups, first = [], 0
        for _, real_NL in self.slots:
            bias = np.where(real_NL, np.float32(0), np.float32(-np.inf))[:, None, None]
            bias_N11L = None if real_NL.all() else _tensor(bias, self.starts_S.device)
            groups.append(Group(real_NL.shape[0], real_NL.shape[1], first, bias_N11L))
            first += real_NL.size
        return tuple(groups)

    def maps(self, parts: int, heads: int) -> RowMaps:
        """The maps for a packed [T, parts * H * D]; computed once and used by all layers."""
        if (parts, heads) not in self._maps:
            self._maps[parts, heads] = self._make_maps(parts, heads)
        return self._maps[parts, heads]

    def _make_maps(self, parts: int, heads: int) -> RowMaps:
        part, head = np.arange(parts)[:, None, None, None], np.arange(heads)[:, None]
        into, real = [], []
        for tokens_NL, real_NL in self.slots:
            rows = (tokens_NL[:, None] * parts + part) * heads + head
            into.append(rows.ravel())
            real.append(np.broadcast_to(real_NL[:, None], rows.shape).ravel())
        into_M, real_M = np.concatenate(into), np.concatenate(real)
        back_T = np.full(self.rows * parts * heads, len(into_M))
        back_T[into_M[real_M]] = np.flatnonzero(real_M)
        maps = (into_M, np.flatnonzero(~real_M), back_T)
        return RowMaps(*(_tensor(rows, self.starts_S.device) for rows in maps))


@dataclass(eq=False)
class Packed:
    """A batch of concatenated sequences without padding.

    tokens_T, segments_T, positions_T: int64. Rows from `layout.tokens` on are filler (token id 0): no sequence attends
    to them and no pooling reads them, so their gradient is exactly zero.
    """

    tokens_T: Tensor
    segments_T: Tensor
    positions_T: Tensor
    layout: Layout

    @classmethod
    def from_numpy(
        cls,
        tokens: Integers,
        segments: Integers,
        positions: Integers,
        offsets: Integers,
        device: torch.device | str = "cpu",
    ) -> Packed:
        """Packs host arrays; sequence s is tokens[offsets[s]:offsets[s + 1]], and `offsets` has the length S + 1."""
        assert len(tokens) == len(segments) == len(positions) == offsets[-1], "arrays and offsets agree"
        rows = round_up(len(tokens), ROW_STEP)

        def place(array: Integers) -> Tensor:
            return _tensor(np.pad(array.astype(np.int64), (0, rows - len(array))), device)

        return cls(place(tokens), place(segments), place(positions), Layout.build(offsets, rows, device))


def _tensor(array: npt.NDArray[Any], device: torch.device | str) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device, non_blocking=True)


def round_up(count: int, step: int) -> int:
    """`count` rounded up to a multiple of `step`."""
    return -(-count // step) * step


def _blocks(lengths: Integers) -> list[Integers]:
    """The sequence numbers of each block, of equal rounded width and at most `BLOCK_SCORES` scores per head."""
    widths = -(-lengths // WIDTH_STEP) * WIDTH_STEP
    blocks: list[Integers] = []
    for width in np.unique(widths):
        members, most = np.flatnonzero(widths == width), max(1, BLOCK_SCORES // int(width) ** 2)
        blocks += [members[start : start + most] for start in range(0, len(members), most)]
    return blocks


def attend(
    qkv_T3E: Tensor,
    layout: Layout,
    heads: int,
    p: float = 0.0,
    rng: torch.Generator | None = None,
    kernel: Kernel = "auto",
) -> Tensor:
    """Attention within each sequence: queries, keys and values side by side, [T, 3 * E] -> context [T, E].

    p: dropout of the probabilities, drawn from `rng`. Filler rows of the result and of the gradient are zero.
    """
    assert p == 0 or rng is not None, "dropout draws from a generator"
    if kernel == "flash" or (kernel == "auto" and _flash_fits(qkv_T3E, heads, p, rng)):
        return _flash(qkv_T3E, layout, heads, p)
    context_TE: Tensor = _Grouped.apply(qkv_T3E, layout, heads, p, rng)  # type: ignore[no-untyped-call]
    return context_TE


def _flash_fits(qkv_T3E: Tensor, heads: int, p: float, rng: torch.Generator | None) -> bool:
    """Whether flash attention supports it: CUDA, half precision, head width, and the default generator for dropout."""
    halves = (torch.bfloat16, torch.float16)
    if not qkv_T3E.is_cuda or qkv_T3E.dtype not in halves or qkv_T3E.shape[1] // (3 * heads) % 8:
        return False
    return p == 0 or rng is torch.cuda.default_generators[qkv_T3E.get_device()]


def _flash(qkv_T3E: Tensor, layout: Layout, heads: int, p: float) -> Tensor:
    """Flash attention over packed sequences (Dao 2023). CUDA only: its tests are marked `cuda`."""
    q_THD, k_THD, v_THD = qkv_T3E[: layout.tokens].view(layout.tokens, 3, heads, -1).unbind(1)
    bounds, longest = layout.bounds_S1, layout.longest
    context_THD = torch.ops.aten._flash_attention_forward(
        q_THD, k_THD, v_THD, bounds, bounds, longest, longest, p, False, False
    )[0]
    context_TE: Tensor = context_THD.flatten(1)
    filler = layout.rows - layout.tokens
    return torch.nn.functional.pad(context_TE, (0, 0, 0, filler)) if filler else context_TE


class _Grouped(torch.autograd.Function):
    """Attention in padded blocks: one gather fills all blocks, another one returns the context to packed rows.

    It has a hand-written backward, because autograd would reverse each gather by an index_add into zeros, and so that
    the products write directly into the buffers that the gathers read.
    """

    @staticmethod
    def forward(ctx: Any, qkv_T3E: Tensor, layout: Layout, heads: int, p: float, rng: torch.Generator | None) -> Tensor:
        head_width = qkv_T3E.shape[1] // (3 * heads)
        one, three = layout.maps(1, heads), layout.maps(3, heads)
        # With rows of width D, the query, key or value of one token and head is one row: [T, 3 E] -> [T * 3 * H, D].
        # One gather copies the rows of all groups into blocks [3, N, H, L, D], group by group.
        blocks_MD = qkv_T3E.reshape(-1, head_width).index_select(0, three.into_M)
        context_MD = _with_zero_row(len(one.into_M), blocks_MD)
        tape, factor = [blocks_MD], 1.0
        for group in layout.groups:
            q_BLD, k_BLD, v_BLD = _views(blocks_MD, group, heads, 3)
            scores_BLL = _product(q_BLD, k_BLD.mT, head_width**-0.5)
            # Padded keys get -inf, so their weight is exactly 0. The results of padded queries are never gathered.
            if group.bias_N11L is not None:
                scores_BLL.view(-1, heads, *scores_BLL.shape[1:]).add_(group.bias_N11L.to(scores_BLL.dtype))
            weights_BLL = torch.softmax(scores_BLL, -1)
            tape.append(weights_BLL)
            if rng is not None and p > 0:
                keep_BLL, factor = keep_mask(weights_BLL.shape, p, weights_BLL, rng)
                tape.append(keep_BLL)
                weights_BLL = weights_BLL * keep_BLL
            # The factor 1 / (1 - p) of dropout is the alpha of the product, which takes no time.
            _product(weights_BLL, v_BLD, factor, out=_views(context_MD, group, heads, 1)[0])
        ctx.save_for_backward(*tape)
        ctx.facts = layout, heads, factor, len(tape) > 1 + len(layout.groups)
        # Back to packed rows; filler rows get the zero row after the blocks.
        return context_MD.index_select(0, one.back_T).view(len(qkv_T3E), -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        layout, heads, factor, dropped = ctx.facts
        blocks_MD, *saved = ctx.saved_tensors
        tape, head_width = iter(saved), blocks_MD.shape[1]
        one, three = layout.maps(1, heads), layout.maps(3, heads)
        # The gradient of a padded query must be 0, or it would add to the gradients of keys and values.
        dcontext_MD = gradients[0].reshape(-1, head_width).index_select(0, one.into_M)
        if one.padding_P.dtype == torch.bool:
            dcontext_MD.masked_fill_(one.padding_P[:, None], 0)
        else:
            dcontext_MD.index_fill_(0, one.padding_P, 0)
        dblocks_MD = _with_zero_row(len(blocks_MD), blocks_MD)
        for group in layout.groups:
            q_BLD, k_BLD, v_BLD = _views(blocks_MD, group, heads, 3)
            dq_BLD, dk_BLD, dv_BLD = _views(dblocks_MD, group, heads, 3)
            (dcontext_BLD,) = _views(dcontext_MD, group, heads, 1)
            weights_BLL = kept_BLL = next(tape)
            dweights_BLL = _product(dcontext_BLD, v_BLD.mT, factor)
            if dropped:
                keep_BLL = next(tape)
                kept_BLL = weights_BLL * keep_BLL
                dweights_BLL.mul_(keep_BLL)
            _product(kept_BLL.mT, dcontext_BLD, factor, out=dv_BLD)
            # The backward of softmax, w (dw - sum(w dw)), in one kernel.
            dscores_BLL = torch._softmax_backward_data(dweights_BLL, weights_BLL, -1, weights_BLL.dtype)
            _product(dscores_BLL, k_BLD, head_width**-0.5, out=dq_BLD)
            _product(dscores_BLL.mT, q_BLD, head_width**-0.5, out=dk_BLD)
        return dblocks_MD.index_select(0, three.back_T).view(layout.rows, -1), None, None, None, None


def _with_zero_row(rows: int, like_MD: Tensor) -> Tensor:
    """An uninitialized [rows + 1, D] whose last row is zero."""
    buffer_MD = like_MD.new_empty(rows + 1, like_MD.shape[1])
    buffer_MD[-1] = 0
    return buffer_MD


def _views(blocks_MD: Tensor, group: Group, heads: int, parts: int) -> tuple[Tensor, ...]:
    """The views [N * H, L, D] of a group in the rows of all blocks, one for each of `parts`."""
    batch, start = group.sequences * heads, group.first * heads * parts
    block_MD = blocks_MD[start : start + parts * batch * group.width]
    return block_MD.view(parts, batch, group.width, -1).unbind()


def _product(a_BXY: Tensor, b_BYZ: Tensor, factor: float, out: Tensor | None = None) -> Tensor:
    """`factor * a @ b`, written to `out` if given."""
    if out is None:
        out = a_BXY.new_empty(len(a_BXY), a_BXY.shape[1], b_BYZ.shape[2])
    return torch.baddbmm(out, a_BXY, b_BYZ, beta=0, alpha=factor, out=out)
