"""The kernels of a fused layer by PyTorch operations: the reference for the other implementations, on any device.

Shapes: T rows of a packed batch, E hidden width, F feed-forward width, H heads, D head width, S sequences.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from yourbert.training.fused.interface import DropoutSeed, PartialSums, Places, Tables
from yourbert.training.fused.weights import ParameterBuffer


def parts(last_rows: int, sequences: int, longest: int, width: int, wide: int, like: Tensor) -> PartialSums:
    """Allocates the partial sums for the gradients of a layer's vectors."""
    return PartialSums((1, 1, 1, 1), width, wide, like.device)


def attend(
    qkv_T3E: Tensor, bias_3E: Tensor, bounds_S1: Tensor, longest: int, asked: int, heads: int, draw: DropoutSeed
) -> tuple[Tensor, Tensor]:
    """Attention within each sequence, with dropout of the probabilities: out_TE, and a tensor for the backward.

    asked: the number of queries per sequence whose output is read, from the first; other outputs may be undefined.
    """
    qkv_T3HD = (qkv_T3E.float() + bias_3E).view(len(qkv_T3E), 3, heads, -1)
    out_TE = torch.empty_like(qkv_T3E[:, : qkv_T3E.shape[1] // 3])
    for sequence, (start, end) in enumerate(zip(*_pairs(bounds_S1), strict=True)):
        q_HLD, k_HLD, v_HLD = qkv_T3HD[start:end].permute(1, 2, 0, 3)
        weights_HLL = torch.softmax(q_HLD @ k_HLD.mT * q_HLD.shape[-1] ** -0.5, -1)
        out_HLD = weights_HLL * _kept(weights_HLL, draw, sequence) @ v_HLD
        out_TE[start:end] = out_HLD.transpose(0, 1).flatten(1)
    return out_TE, bias_3E.new_empty(heads, 0)


def attention_backward(
    dout_TE: Tensor, qkv_T3E: Tensor, bias_3E: Tensor, bounds_S1: Tensor, longest: int, asked: int, out_TE: Tensor,
    logsum_HT: Tensor, draw: DropoutSeed, parts_P3E: Tensor,
) -> Tensor:  # fmt: skip
    """dqkv_T3E; writes partial sums over its rows."""
    with torch.enable_grad():
        again_T3E = qkv_T3E.detach().float().requires_grad_()
        read_TE = attend(again_T3E, bias_3E.detach(), bounds_S1, longest, asked, len(logsum_HT), draw)[0]
        (dqkv_T3E,) = torch.autograd.grad(read_TE, again_T3E, dout_TE.float())
    parts_P3E.copy_(dqkv_T3E.sum(0, keepdim=True))
    return dqkv_T3E.to(qkv_T3E.dtype)


def add_norm(
    x_TE: Tensor, y_TE: Tensor, bias_E: Tensor, weight_E: Tensor, shift_E: Tensor, eps: float, draw: DropoutSeed
) -> tuple[Tensor, Tensor, Tensor]:
    """norm(x + dropout(y + bias)), and two tensors for its backward."""
    y_TE = y_TE.float() + bias_E
    sum_TE = (x_TE.float() + y_TE * _kept(y_TE, draw)).to(x_TE.dtype)
    out_TE = F.layer_norm(sum_TE.float(), weight_E.shape, weight_E, shift_E, eps).to(x_TE.dtype)
    return out_TE, sum_TE, torch.tensor(eps)


def add_norm_backward(
    dout_TE: Tensor, sum_TE: Tensor, stats_T2: Tensor, weight_E: Tensor, draw: DropoutSeed, parts_P3E: Tensor
) -> tuple[Tensor, Tensor]:
    """dx_TE and dy_TE; writes partial sums of the gradients of weight, shift and bias, side by side."""
    with torch.enable_grad():
        read = (sum_TE.detach().float().requires_grad_(), weight_E.detach().requires_grad_())
        out_TE = F.layer_norm(read[0], weight_E.shape, read[1], None, float(stats_T2))
        dsum_TE, dweight_E = torch.autograd.grad(out_TE, read, dout_TE.float())
    dy_TE = dsum_TE * _kept(dsum_TE, draw)
    parts_P3E.copy_(torch.cat([dweight_E, dout_TE.float().sum(0), dy_TE.sum(0)]))
    return dsum_TE.to(sum_TE.dtype), dy_TE.to(sum_TE.dtype)


def gelu(x_TF: Tensor, bias_F: Tensor) -> tuple[Tensor, Tensor]:
    """gelu(x + bias), and a tensor for its backward."""
    return F.gelu(x_TF.float() + bias_F).to(x_TF.dtype), x_TF


def gelu_backward(dout_TF: Tensor, kept_TF: Tensor, bias_F: Tensor, parts_PF: Tensor) -> Tensor:
    """dx_TF; writes partial sums of the gradient of bias."""
    dx_TF: Tensor = torch.ops.aten.gelu_backward(dout_TF.float(), kept_TF.float() + bias_F)
    parts_PF.copy_(dx_TF.sum(0, keepdim=True))
    return dx_TF.to(kept_TF.dtype)


def embed(
    tables: Tables, weight_E: Tensor, shift_E: Tensor, places: Places, draw: DropoutSeed, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """dropout(norm(sum of a token's rows in the tables)), and a tensor for the backward."""
    normal_TE = F.layer_norm(_total(tables, places), weight_E.shape, weight_E, shift_E, eps)
    return (normal_TE * _kept(normal_TE, draw)).to(dtype), torch.tensor(eps)


def embed_backward(
    dout_TE: Tensor, tables: Tables, weight_E: Tensor, places: Places, draw: DropoutSeed, stats_T2: Tensor
) -> tuple[Tensor, Tensor]:
    """dtotal_TE, and the gradients of weight, shift and both segments, [4, E]."""
    dout_TE = dout_TE.float()
    dout_TE = dout_TE * _kept(dout_TE, draw)
    with torch.enable_grad():
        read = (_total(tables, places).detach().requires_grad_(), weight_E.detach().requires_grad_())
        out_TE = F.layer_norm(read[0], weight_E.shape, read[1], None, float(stats_T2))
        dtotal_TE, dweight_E = torch.autograd.grad(out_TE, read, dout_TE)
    segments = [dtotal_TE[places[2] == segment].sum(0) for segment in range(2)]
    return dtotal_TE, torch.stack([dweight_E, dout_TE.sum(0), *segments])


def position_sums(dtotal_TE: Tensor, bounds_S1: Tensor, out_E: Tensor) -> None:
    """Adds to `out_E`, a row per position, the gradients summed over the sequences long enough to have it."""
    for start, end in zip(*_pairs(bounds_S1), strict=True):
        out_E[: end - start] += dtotal_TE[start:end]


def word_gradient(dtotal_TE: Tensor, words_T: Tensor, rows: int, pad: int) -> Tensor:
    """The gradient of the word table, which has `rows` rows; 0 for `pad`. Dense or sparse, as `adamw` expects it."""
    dword_UE: Tensor = torch.ops.aten.embedding_dense_backward(dtotal_TE, words_T, rows, pad, False)
    return dword_UE


def _total(tables: Tables, places: Places) -> Tensor:
    word_TE, position_TE, segment_TE = (table[rows_T] for table, rows_T in zip(tables, places, strict=True))
    return word_TE + position_TE + segment_TE


def sums(found: PartialSums) -> Tensor:
    """The gradients of all vectors, concatenated."""
    return torch.cat([table.sum(0) for table in found.tables()])


def norm(gradients: list[Tensor]) -> Tensor:
    """The norm over all gradients, computed in fp32."""
    norms: list[Tensor] = []
    # One call per dtype, since a list of mixed dtypes is processed tensor by tensor.
    for dtype in dict.fromkeys(gradient.dtype for gradient in gradients):
        norms += torch._foreach_norm([g for g in gradients if g.dtype == dtype], 2, dtype=torch.float32)
    total: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return total


def adamw(
    buffer: ParameterBuffer, lr: Tensor, scale: Tensor, stopped: Tensor, corrections: Tensor,
    betas: tuple[float, float], eps: float, decay: float,
) -> None:  # fmt: skip
    """One AdamW step with the gradient divided by `scale`, then the rounded copy; does nothing if `stopped` is set."""
    if stopped:
        return
    assert buffer.gradient_N is not None, "only weights with a gradient are updated"
    gradient_N = buffer.gradient_N.float() / scale
    buffer.master_N.mul_(1 - lr * decay)
    buffer.mean_N.lerp_(gradient_N, 1 - betas[0])
    buffer.square_N.mul_(betas[1]).addcmul_(gradient_N, gradient_N, value=1 - betas[1])
    deviation_N = buffer.square_N.sqrt() / corrections[1].sqrt() + eps
    buffer.master_N.sub_(lr / corrections[0] * buffer.mean_N / deviation_N)
    buffer.sync_from_master()


def _pairs(bounds_S1: Tensor) -> tuple[list[int], list[int]]:
    bounds = bounds_S1.tolist()
    return bounds[:-1], bounds[1:]


def _kept(x: Tensor, draw: DropoutSeed, *more: int) -> Tensor | float:
    """The dropout mask times the factor, [shape of x]; the same for the same draw."""
    if not draw.dropped:
        return 1.0
    seed = hash((int(draw.seeds[draw.site]), *more)) % 2**63
    rng = torch.Generator(x.device).manual_seed(seed)
    return (torch.rand(x.shape, generator=rng, device=x.device) >= draw.dropped / 65536) * draw.factor
