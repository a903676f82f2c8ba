"""What training minimises: for each kind of task the sum of its rows' losses.

Sums, not means: the caller divides once by the labels of the whole optimizer step. Shapes: B rows, C classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from yourbert.core.tasks import Task


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
