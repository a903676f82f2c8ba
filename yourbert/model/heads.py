"""Task heads: from pooled text vectors to scores, and from scores to predictions.

The description of a task determines its head. One vector per row is classified or regressed. Two vectors per row (a
pair whose texts are encoded separately) are compared by their cosine, or classified by [u; v; |u - v|] (Reimers and
Gurevych 2019). `MlmHead` predicts masked word pieces during domain pretraining (Devlin et al. 2019).

Shapes: S sequences, B rows (S = B, or 2B if a row has two sequences: a0, b0, a1, b1 ...), E hidden width, C scores per
row, M masked positions, V word pieces.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yourbert.core.tasks import Task
from yourbert.model.dropout import dropout
from yourbert.model.encoder import ACTIVATIONS, EncoderConfig, initialise, project


class Head(nn.Module):
    """The base of all heads: `forward` returns scores_BC for the loss, `predict` turns them into predictions.

    layers, pooler: the task-specific layers and pooler, if any; `Model.encoder_for` replaces the shared ones by them.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.layers = nn.ModuleList()
        self.pooler: nn.Linear | None = None

    def forward(self, pooled_SE: Tensor, rng: torch.Generator | None) -> Tensor:
        """scores_BC; in training mode with dropout, drawn from `rng`."""
        raise NotImplementedError

    def predict(self, scores_BC: Tensor) -> Tensor:
        """Class probabilities [B, C], or similarities [B] on the task's scale."""
        raise NotImplementedError

    def drop(self, x: Tensor, rng: torch.Generator | None) -> Tensor:
        return dropout(x, self.p if self.training else 0.0, rng)


class ClassifyHead(Head):
    """Dropout and one linear layer: one logit per class."""

    def __init__(self, width: int, classes: int, p: float) -> None:
        super().__init__(p)
        self.linear = nn.Linear(width, classes)

    def forward(self, pooled_SE: Tensor, rng: torch.Generator | None) -> Tensor:
        logits_BC: Tensor = self.linear(self.drop(pooled_SE, rng))
        return logits_BC

    def predict(self, scores_BC: Tensor) -> Tensor:
        return torch.softmax(scores_BC, -1)


class SiameseHead(ClassifyHead):
    """Classifies two separately encoded texts by [u; v; |u - v|]."""

    def __init__(self, width: int, classes: int, p: float) -> None:
        super().__init__(3 * width, classes, p)

    def forward(self, pooled_SE: Tensor, rng: torch.Generator | None) -> Tensor:
        u_BE, v_BE = pooled_SE[0::2], pooled_SE[1::2]
        return super().forward(torch.cat([u_BE, v_BE, (u_BE - v_BE).abs()], -1), rng)


class SimilarityHead(Head):
    """A similarity on the task's scale, low to high. The loss compares `estimate` with the label."""

    def __init__(self, low: float, high: float, p: float) -> None:
        super().__init__(p)
        self.low, self.high = low, high

    def estimate(self, scores_B1: Tensor) -> Tensor:
        """The similarity [B] on the task's scale, not clamped, so that its gradient is never cut off."""
        raise NotImplementedError

    def predict(self, scores_BC: Tensor) -> Tensor:
        return self.estimate(scores_BC).clamp(self.low, self.high)


class RegressHead(SimilarityHead):
    """Dropout and one linear layer: one logit z; the similarity is low + (high - low) * sigmoid(z)."""

    def __init__(self, width: int, low: float, high: float, p: float) -> None:
        super().__init__(low, high, p)
        self.linear = nn.Linear(width, 1)

    def forward(self, pooled_SE: Tensor, rng: torch.Generator | None) -> Tensor:
        logits_B1: Tensor = self.linear(self.drop(pooled_SE, rng))
        return logits_B1

    def estimate(self, scores_B1: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * torch.sigmoid(scores_B1[:, 0])


class CosineHead(SimilarityHead):
    """The cosine c of two separately encoded texts, as the similarity low + (high - low) * (scale * c + bias).

    Initially scale is 1 and bias 0, so c = 1 is `high` and c = 0 is `low`; a negative c is below `low` in `estimate`,
    and `low` in `predict`. With a frozen encoder only scale and bias are trained.
    """

    def __init__(self, low: float, high: float) -> None:
        super().__init__(low, high, 0.0)
        self.scale = nn.Parameter(torch.ones(1))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, pooled_SE: Tensor, rng: torch.Generator | None) -> Tensor:
        cosine_B = F.cosine_similarity(pooled_SE[0::2], pooled_SE[1::2], dim=-1)
        return (self.scale * cosine_B + self.bias)[:, None]

    def estimate(self, scores_B1: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * scores_B1[:, 0]


def build_head(task: Task, hidden_size: int, head_dropout: float, generator: torch.Generator) -> Head:
    """The head for a task; its weights are drawn from `generator`."""
    if task.kind == "similarity" and task.sequences_per_row == 2:
        return CosineHead(task.low, task.high)
    head: Head
    if task.kind == "similarity":
        head = RegressHead(hidden_size, task.low, task.high, head_dropout)
    elif task.sequences_per_row == 2:
        head = SiameseHead(hidden_size, task.outputs, head_dropout)
    else:
        head = ClassifyHead(hidden_size, task.outputs, head_dropout)
    initialise(head, generator)
    return head


class MlmHead(nn.Module):
    """Predicts word pieces at masked positions: dense, activation, norm, and the word embeddings as the decoder."""

    def __init__(self, config: EncoderConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.activation = ACTIVATIONS[config.hidden_act]
        initialise(self, generator)

    def forward(self, hidden_ME: Tensor, word_embedding_weight: Tensor) -> Tensor:
        """The hidden vectors of the masked positions -> logits_MV in fp32, computed in the dtype of the vectors."""
        dtype = hidden_ME.dtype
        x_ME = self.norm(self.activation(project(hidden_ME, self.dense)).float()).to(dtype)
        return F.linear(x_ME, word_embedding_weight.to(dtype), self.bias.to(dtype)).float()
