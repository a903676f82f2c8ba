"""Losses: the sum over the rows of a batch for each kind of task, and two consistency regularizers.

A regularizer penalizes a model whose prediction for a row differs between two views of it. `r_drop` (Liang et al.
2021): the views have different dropout masks. Both are in one batch, in which every row occurs twice, because one large
batch is faster than two. `smart` (Jiang et al. 2020, without the proximal term): the second view has embeddings shifted
slightly in the direction that changes the prediction most.

Losses are sums, not means: the caller divides once by the number of labels in the whole optimizer step.
Shapes: B rows, C classes or scores, T tokens, E hidden width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from yourbert.core.tasks import Task
from yourbert.model.attention import Packed
from yourbert.model.multitask import Model

# Norms relative to the norm of an embedding: the random start of the search for a shift, and the shift it returns.
START_NORM, SHIFT_NORM = 1e-3, 5e-2


def loss_sum(
    task: Task,
    scores_BC: Tensor,
    labels_B: Tensor,
    class_weights_C: Tensor | None = None,
    real_B: Tensor | None = None,
) -> Tensor:
    """The loss of a batch, summed over its rows, or over the rows where `real_B` is true.

    Classification: cross-entropy. Similarity, with the label scaled to 0..1: binary cross-entropy for the logit of a
    cross-encoder, squared error for the cosine of a bi-encoder (Reimers and Gurevych 2019).
    """
    if real_B is not None:
        losses_B = _losses(task, scores_BC.float(), labels_B, class_weights_C, "none")
        return losses_B.masked_fill(~real_B, 0).sum()
    return _losses(task, scores_BC.float(), labels_B, class_weights_C, "sum")


def _losses(task: Task, scores_BC: Tensor, labels_B: Tensor, class_weights_C: Tensor | None, reduction: str) -> Tensor:
    if task.kind == "classification":
        return F.cross_entropy(scores_BC, labels_B, weight=class_weights_C, reduction=reduction)
    target_B = (labels_B - task.low) / (task.high - task.low)
    scores_B = scores_BC.reshape(-1)
    if task.encoding == "bi":
        return F.mse_loss(scores_B, target_B, reduction=reduction)
    return F.binary_cross_entropy_with_logits(scores_B, target_B, reduction=reduction)


def balanced_weights(labels_R: Tensor, classes: int) -> Tensor:
    """Class weights [C] that give every class the same total weight and rows a mean of 1; an absent class gets 0."""
    counts_C = torch.bincount(labels_R, minlength=classes).float()
    present = int((counts_C > 0).sum())
    return torch.where(counts_C > 0, counts_C.sum() / (present * counts_C.clamp(min=1)), 0.0)


def divergence(task: Task, first_BC: Tensor, second_BC: Tensor) -> Tensor:
    """How much two predictions for each row differ, [B]: the symmetric KL divergence, or the squared difference."""
    if task.kind == "classification":
        first_BC, second_BC = (F.log_softmax(scores.float(), -1) for scores in (first_BC, second_BC))
        forward_BC = F.kl_div(first_BC, second_BC, reduction="none", log_target=True)
        return (forward_BC + F.kl_div(second_BC, first_BC, reduction="none", log_target=True)).sum(-1) / 2
    if task.encoding == "cross":
        first_BC, second_BC = torch.sigmoid(first_BC.float()), torch.sigmoid(second_BC.float())
    return (first_BC.float() - second_BC.float()).square().sum(-1)


def adversarial_shift(
    task: Task, scores_BC: Tensor, embedded_TE: Tensor, forward: Callable[[Tensor], Tensor], rng: torch.Generator
) -> Tensor:
    """A shift of the embeddings that increases the divergence most, by one gradient step from a small random shift.

    forward: maps a shift of the embeddings to scores_BC. The shift of each token has SHIFT_NORM of the norm of its
    embedding. The search leaves no gradient in the weights.
    """
    norm_T1 = embedded_TE.detach().float().norm(dim=-1, keepdim=True)
    # The divergence has its minimum, and so no gradient, at a shift of 0: the search starts at a random one.
    start_TE = torch.empty_like(embedded_TE, dtype=torch.float32).normal_(generator=rng)
    start_TE.mul_(START_NORM * norm_T1 / start_TE.shape[1] ** 0.5)
    shift_TE = start_TE.to(embedded_TE.dtype).requires_grad_()
    (grad_TE,) = torch.autograd.grad(divergence(task, scores_BC.detach(), forward(shift_TE)).sum(), shift_TE)
    grad_norm_T1 = grad_TE.float().norm(dim=-1, keepdim=True).clamp(min=1e-20)
    adversarial_TE: Tensor = SHIFT_NORM * norm_T1 / grad_norm_T1 * grad_TE.float()
    return adversarial_TE.to(embedded_TE.dtype)


def r_drop_loss(task: Task, scores_2BC: Tensor, real_B: Tensor | None = None) -> Tensor:
    """The divergence between the two views of each row, summed over rows; the views are adjacent in the batch.

    real_B: in a batch padded to a fixed size, whether an entry is a row or padding.
    """
    divergence_B = divergence(task, scores_2BC[0::2], scores_2BC[1::2])
    return (divergence_B if real_B is None else divergence_B.masked_fill(~real_B, 0)).sum()


def smart_loss(
    model: Model, task: Task, batch: Packed, rng: torch.Generator, weight: float, loss: Callable[[Tensor], Tensor]
) -> Tensor:
    """The loss of a batch plus `weight` times the divergence under the adversarial shift, summed over rows.

    It takes three forward passes instead of one: the loss, the search for the shift, and the shifted embeddings.
    """
    embedded_TE = model.encoder.embed(batch, rng)
    first_BC = model(task.name, batch, rng, embedded_TE)
    detached_TE = embedded_TE.detach()
    shift_TE = adversarial_shift(
        task, first_BC, detached_TE, lambda shift_TE: model(task.name, batch, rng, detached_TE + shift_TE), rng
    )
    second_BC = model(task.name, batch, rng, embedded_TE + shift_TE)
    return loss(first_BC) + weight * divergence(task, first_BC, second_BC).sum()
