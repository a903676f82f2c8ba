"""What training minimises: for each kind of task the sum of its rows' losses, and regularisers that look twice.

A regulariser makes the loss grow where a second look at the same rows gives another answer. "dropout": the second look
draws dropout anew (R-Drop; Liang et al. 2021). Both are read in one batch, in which every row is twice: a larger batch
costs less than two. "adversarial": the second reads embeddings that were shifted a little, to where the answer changes
most (SMART; Jiang et al. 2020, without its proximal term).

Sums, not means: the caller divides once by the labels of the whole optimizer step.
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

# Of an embedding's length: where the search for the worst shift begins, and how far it may go.
BEGIN, REACH = 1e-3, 5e-2


def loss_sum(
    task: Task,
    scores_BC: Tensor,
    labels_B: Tensor,
    class_weights_C: Tensor | None = None,
    real_B: Tensor | None = None,
) -> Tensor:
    """The loss of a batch, summed over rows; with `real_B` over those alone where it is true.

    Classification: cross-entropy. Similarity: the label moved to 0..1; a cross-encoder's logit is scored by binary
    cross-entropy against it, a cosine by squared error (Reimers and Gurevych 2019), as in the study.
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
    """Weights under which every class counts alike and the mean over the given rows is 1; absent classes get 0."""
    counts_C = torch.bincount(labels_R, minlength=classes).float()
    present = int((counts_C > 0).sum())
    return torch.where(counts_C > 0, counts_C.sum() / (present * counts_C.clamp(min=1)), 0.0)


def divergence(task: Task, first_BC: Tensor, second_BC: Tensor) -> Tensor:
    """How far two looks at each row are apart, [B]: Kullback-Leibler both ways, or the squared difference."""
    if task.kind == "classification":
        first_BC, second_BC = (F.log_softmax(scores.float(), -1) for scores in (first_BC, second_BC))
        there_BC = F.kl_div(first_BC, second_BC, reduction="none", log_target=True)
        return (there_BC + F.kl_div(second_BC, first_BC, reduction="none", log_target=True)).sum(-1) / 2
    if task.encoding == "cross":
        first_BC, second_BC = torch.sigmoid(first_BC.float()), torch.sigmoid(second_BC.float())
    return (first_BC.float() - second_BC.float()).square().sum(-1)


def worst_shift(
    task: Task, scores_BC: Tensor, embedded_TE: Tensor, look: Callable[[Tensor], Tensor], rng: torch.Generator
) -> Tensor:
    """A shift of the embeddings, REACH of each one's length, by one step uphill from a random place nearby.

    look: scores_BC of shifted embeddings. The weights get no gradient from the search.
    """
    length_T1 = embedded_TE.detach().float().norm(dim=-1, keepdim=True)
    begin_TE = torch.empty_like(embedded_TE, dtype=torch.float32).normal_(generator=rng)
    begin_TE.mul_(BEGIN * length_T1 / begin_TE.shape[1] ** 0.5)
    shift_TE = begin_TE.to(embedded_TE.dtype).requires_grad_()
    (uphill_TE,) = torch.autograd.grad(divergence(task, scores_BC.detach(), look(shift_TE)).sum(), shift_TE)
    steepness_T1 = uphill_TE.float().norm(dim=-1, keepdim=True).clamp(min=1e-20)
    worst_TE: Tensor = REACH * length_T1 / steepness_T1 * uphill_TE.float()
    return worst_TE.to(embedded_TE.dtype)


def consistency_loss(task: Task, scores_2BC: Tensor, real_B: Tensor | None = None) -> Tensor:
    """How far two looks at each row are apart, summed over rows; of a batch where each stands twice, side by side.

    real_B: whether it is a row at all, in a batch filled up to a fixed size.
    """
    apart_B = divergence(task, scores_2BC[0::2], scores_2BC[1::2])
    return (apart_B if real_B is None else apart_B.masked_fill(~real_B, 0)).sum()


def adversarial_loss(
    model: Model, task: Task, batch: Packed, rng: torch.Generator, weight: float, loss: Callable[[Tensor], Tensor]
) -> Tensor:
    """The loss of a batch, summed over rows, with what the worst shift changes; three passes instead of one."""
    embedded_TE = model.encoder.embed(batch, rng)
    first_BC = model(task.name, batch, rng, embedded_TE)
    detached_TE = embedded_TE.detach()
    shift_TE = worst_shift(
        task, first_BC, detached_TE, lambda shift_TE: model(task.name, batch, rng, detached_TE + shift_TE), rng
    )
    second_BC = model(task.name, batch, rng, embedded_TE + shift_TE)
    return loss(first_BC) + weight * divergence(task, first_BC, second_BC).sum()
