"""The complete model: one encoder, and a pooling and a head for each task.

A single-task model has one head. With a frozen encoder, `features` are computed once, and only the heads are trained.

Shapes: S sequences, E hidden width, B rows, C scores per row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy, deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from yourbert.core.tasks import Pooling, Task
from yourbert.model.attention import Packed
from yourbert.model.encoder import Encoder
from yourbert.model.heads import Head, build_head


class Heads(nn.ModuleDict):
    """Heads by task name; also allows names such as "values" and "training", which ModuleDict refuses."""

    def __setitem__(self, name: str, head: nn.Module) -> None:
        self._modules[name] = head

    def __getitem__(self, name: str) -> Head:
        head = self._modules[name]
        assert isinstance(head, Head)
        return head

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "training":  # the mode of the module, also if a task has this name
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)


class Model(nn.Module):
    """An encoder with a head for each task; the heads are initialized from `generator` in the order of `tasks`.

    pooling: of all tasks; task_pooling: of single tasks, instead. task_specific_layers: the number of last layers that
    a task does not share, and the pooler with them for "cls" pooling; they are initialized as copies.
    """

    def __init__(
        self,
        encoder: Encoder,
        tasks: Iterable[Task],
        pooling: Pooling,
        head_dropout: float,
        generator: torch.Generator,
        task_pooling: Mapping[str, Pooling] | None = None,
        task_specific_layers: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        width = encoder.config.hidden_size
        self.heads = Heads({task.name: build_head(task, width, head_dropout, generator) for task in tasks})
        self.task_pooling: dict[str, Pooling] = dict.fromkeys(self.heads, pooling) | dict(task_pooling or {})
        self.task_specific_layers = dict(task_specific_layers or {})
        for name, number in self.task_specific_layers.items():
            self.heads[name].layers.extend(deepcopy(layer) for layer in encoder.layers[-number:])
            self.heads[name].pooler = deepcopy(encoder.pooler) if self.task_pooling[name] == "cls" else None

    def forward(
        self, task_name: str, batch: Packed, rng: torch.Generator | None, embedded_TE: Tensor | None = None
    ) -> Tensor:
        """scores_BC of a task's rows. rng: of all dropout. embedded_TE: the input to use instead of the embeddings."""
        return self.scores_of_features(task_name, self.pooled(task_name, batch, rng, embedded_TE), rng)

    def pooled(
        self, task_name: str, batch: Packed, rng: torch.Generator | None, embedded_TE: Tensor | None = None
    ) -> Tensor:
        """pooled_SE, the input of a task's head."""
        return self.encoder_for(task_name).pooled(batch, rng, self.task_pooling[task_name], embedded_TE)

    def encoder_for(self, task_name: str) -> Encoder:
        """The encoder of a task: the shared one, or a view of it that ends in the task-specific layers (no copies)."""
        head = self.heads[task_name]
        if not head.layers:
            return self.encoder
        encoder = copy(self.encoder)
        encoder._modules = dict(encoder._modules)
        encoder.layers = nn.ModuleList([*self.encoder.layers[: -len(head.layers)], *head.layers])
        encoder.pooler = head.pooler or self.encoder.pooler
        return encoder

    def initialize_task_specific_layers(self, task_name: str, encoder: Encoder) -> None:
        """Copies the task-specific layers of a task from another encoder."""
        head = self.heads[task_name]
        head.layers.load_state_dict(encoder.layers[-len(head.layers) :].state_dict())
        if head.pooler:
            head.pooler.load_state_dict(encoder.pooler.state_dict())

    def train_only_task_specific_layers(self, tasks: Iterable[str]) -> None:
        """Makes only the task-specific layers and heads of these tasks trainable."""
        self.requires_grad_(False)
        for name in tasks:
            self.heads[name].requires_grad_(True)

    def freeze_layers(self) -> None:
        """Freezes all layers, shared and task-specific; the heads stay trainable."""
        self.encoder.requires_grad_(False)
        for name in self.task_specific_layers:
            self.heads[name].layers.requires_grad_(False)
            if pooler := self.heads[name].pooler:
                pooler.requires_grad_(False)

    def features(self, task_name: str, batch: Packed) -> Tensor:
        """`pooled` without dropout and gradients, in any mode."""
        encoder = self.encoder_for(task_name)
        was_training = encoder.training
        encoder.eval()
        try:
            with torch.no_grad():
                return self.pooled(task_name, batch, None)
        finally:
            encoder.train(was_training)

    def scores_of_features(self, task_name: str, pooled_SE: Tensor, rng: torch.Generator | None) -> Tensor:
        """scores_BC from the vectors that `features` returns."""
        scores_BC: Tensor = self.heads[task_name](pooled_SE, rng)
        return scores_BC
