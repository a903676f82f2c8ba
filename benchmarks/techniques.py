"""Techniques of others that the library does not have, tried on its own training: what would each gain?

    with tried("PCGrad") as noted: ...

A way of `benchmarks/asked.py` names one. Those that weigh tasks against each other need steps in which every task has a
loss (`sampling: joint`) and note how far the tasks' gradients of the encoder agree. Shapes: K tasks, N weights.

Sources: surgery, by the name of an aggregator of TorchJD (PCGrad, MGDA ...); uncertainty, Kendall et al. (2018);
dynamic weight average, Liu et al. (2019); layer rates, Howard and Ruder (2018), "Universal language model fine-tuning".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import yourbert.finetuning.finetune
import yourbert.model.multitask
import yourbert.training.steps
from benchmarks.negation import scopes_marked
from benchmarks.switches import changed
from yourbert.core.tasks import Task
from yourbert.model.attention import Packed
from yourbert.model.heads import ClassifyHead, Head, build_head
from yourbert.model.multitask import Model
from yourbert.training.steps import OneByOne, Run, StepLoss

Combine = Callable[[Tensor, Tensor], Tensor]  # gradients_KN, losses_K -> gradient_N
# Dynamic weight average: its temperature, and how many steps make one of its averages.
TEMPERATURE, WINDOW = 2.0, 20
UNCERTAINTY_LR = 0.01
# The share of the steps in which the encoder stays as it is while the heads learn.
HEADS_FIRST = 0.1
# What a layer's learning rate is of that of the layer above.
LAYER_RATE = 0.9


@contextmanager
def tried(name: str) -> Iterator[dict[str, Any]]:
    """Reading of texts and training, and use of what was saved, by technique `name` ("" for none); yields its notes."""
    noted: dict[str, Any] = {}
    if not name:
        yield noted
    elif name in SHAPES:
        with SHAPES[name]():
            yield noted
    else:
        stepper = STEPPERS.get(name) or partial(Apart, partial(surgery, name))
        with changed(yourbert.finetuning.finetune, stepper_for=lambda *_: partial(stepper, noted)):
            yield noted


class Apart(OneByOne):
    """Steps in which each task's gradient of the encoder is computed by itself, before one is made of them all."""

    def __init__(self, combine: Callable[[], Combine], noted: dict[str, Any], run: Run) -> None:
        super().__init__(run)
        self.noted, self.combine = noted, combine()
        self.shared = [p for name, p in run.learning.items() if name.startswith("encoder.")]
        self._cosines: dict[str, float] = {}

    def _backward(self) -> tuple[list[StepLoss], list[Tensor]]:
        parts, gradients = [], []
        for part in self.run.learner.losses(self._epoch, self._step):
            part.loss.backward()  # type: ignore[no-untyped-call]
            gradients.append(torch.cat([_taken(p).flatten() for p in self.shared]))
            parts.append(part)
        losses = [part.loss.detach() for part in parts]
        gradients_KN = torch.stack(gradients)
        self._note_cosines([part.task for part in parts], gradients_KN)
        combined_N = self.combine(gradients_KN, torch.stack(losses))
        pieces = torch.split(combined_N, [p.numel() for p in self.shared])
        for p, gradient in zip(self.shared, pieces, strict=True):
            p.grad = gradient.view_as(p)
        return parts, losses

    def _note_cosines(self, tasks: list[str], gradients_KN: Tensor) -> None:
        """Keeps the mean, over the steps so far, of the cosine between each two tasks' gradients."""
        unit_KN = F.normalize(gradients_KN, dim=1)
        cosines_KK = (unit_KN @ unit_KN.T).tolist()
        for one, task in enumerate(tasks):
            for other in range(one):
                pair = f"{tasks[other]}, {task}"
                self._cosines[pair] = self._cosines.get(pair, 0.0) + cosines_KK[one][other]
        self.noted["cosines"] = {pair: round(sums / (self._step + 1), 4) for pair, sums in self._cosines.items()}


def _taken(p: nn.Parameter) -> Tensor:
    """A weight's gradient, which it then no longer has."""
    gradient, p.grad = p.grad, None
    return torch.zeros_like(p) if gradient is None else gradient


def surgery(name: str) -> Combine:
    from torchjd import aggregation

    aggregator = getattr(aggregation, name)()
    return lambda gradients_KN, losses_K: aggregator(gradients_KN)


def total() -> Combine:
    return lambda gradients_KN, losses_K: gradients_KN.sum(0)


class Uncertainty:
    """Each task's loss L becomes exp(-s) L + s, with an s that learns, too."""

    def __init__(self) -> None:
        self._s_K = nn.Parameter(torch.zeros(0))

    def __call__(self, gradients_KN: Tensor, losses_K: Tensor) -> Tensor:
        if not len(self._s_K):
            self._s_K = nn.Parameter(torch.zeros_like(losses_K))
            self._optimizer = torch.optim.Adam([self._s_K], lr=UNCERTAINTY_LR)
        weights_K = torch.exp(-self._s_K.detach())
        self._s_K.grad = 1 - weights_K * losses_K
        self._optimizer.step()
        return weights_K @ gradients_KN


class DynamicAverage:
    """A task whose loss falls more slowly than the others' weighs more."""

    def __init__(self) -> None:
        self._means: list[Tensor] = []
        self._window: list[Tensor] = []

    def __call__(self, gradients_KN: Tensor, losses_K: Tensor) -> Tensor:
        weights_K = torch.ones_like(losses_K)
        if len(self._means) > 1:
            weights_K = len(losses_K) * torch.softmax(self._means[-1] / self._means[-2] / TEMPERATURE, 0)
        self._window.append(losses_K)
        if len(self._window) == WINDOW:
            self._means.append(torch.stack(self._window).mean(0))
            self._window.clear()
        return weights_K @ gradients_KN


class HeadsFirst(OneByOne):
    """In its first steps the encoder stays as it is."""

    def __init__(self, noted: dict[str, Any], run: Run) -> None:
        super().__init__(run)
        self.shared = [p for name, p in run.learning.items() if name.startswith("encoder.")]

    def _backward(self) -> tuple[list[StepLoss], list[Tensor]]:
        found = super()._backward()
        if self._step < HEADS_FIRST * self.run.steps:
            for p in self.shared:
                p.grad = None
        return found


class LayerRates(OneByOne):
    """Each layer learns at `LAYER_RATE` times the rate of the one above it; heads and pooler at the whole."""

    def __init__(self, noted: dict[str, Any], run: Run) -> None:
        super().__init__(run)
        names = {p: name for name, p in run.learning.items()}
        layers = sum(1 for name in names.values() if name.startswith("encoder.layers.") and name.endswith(".qkv.bias"))
        groups = []
        for group in run.optimizer.param_groups:
            depths: dict[int, list[nn.Parameter]] = {}
            for p in group["params"]:
                depths.setdefault(_depth(names[p], layers), []).append(p)
            groups += [group | {"params": of, "rate": LAYER_RATE ** (layers + 1 - n)} for n, of in depths.items()]
        run.optimizer.param_groups[:] = groups

    def step(self) -> tuple[int, int]:
        with changed(yourbert.training.steps, _set_rate=_set_rates):
            return super().step()


def _depth(name: str, layers: int) -> int:
    """0 for the embeddings, 1 for the first layer ..., and one more than the last layer's for all else."""
    if name.startswith("encoder.embeddings."):
        return 0
    return int(name.split(".")[2]) + 1 if name.startswith("encoder.layers.") else layers + 1


def _set_rates(optimizer: torch.optim.AdamW, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr * group["rate"]


@contextmanager
def hidden_layer() -> Iterator[None]:
    """A head that classifies one vector has a hidden layer before its last one."""

    def build(task: Task, width: int, head_dropout: float, generator: torch.Generator) -> Head:
        head = build_head(task, width, head_dropout, generator)
        if type(head) is ClassifyHead:
            dense = nn.Linear(width, width)
            with torch.no_grad():
                dense.weight.normal_(0, 0.02, generator=generator)
                dense.bias.zero_()
            head.linear = nn.Sequential(dense, nn.Tanh(), head.linear)  # type: ignore[assignment]
        return head

    with changed(yourbert.model.multitask, build_head=build):
        yield


@contextmanager
def attention_pooling() -> Iterator[None]:
    """A text's vector is a mean of its tokens, weighted by how well they answer a query that the task learns."""

    def build(task: Task, width: int, head_dropout: float, generator: torch.Generator) -> Head:
        head = build_head(task, width, head_dropout, generator)
        head.query_E = nn.Parameter(torch.zeros(width))
        return head

    def pooled(
        model: Model, name: str, batch: Packed, rng: torch.Generator | None, embedded_TE: Tensor | None = None
    ) -> Tensor:
        layout = batch.layout
        hidden_TE = model.encoder_for(name)(batch, rng, embedded_TE)[: layout.tokens].float()
        score_T = hidden_TE @ model.head(name).query_E
        sequence_T = layout.sequence_T[: layout.tokens]
        highest_S = torch.zeros(layout.sequences).scatter_reduce(0, sequence_T, score_T, "amax", include_self=False)
        weight_T = torch.exp(score_T - highest_S.detach()[sequence_T])
        weights_S = torch.zeros(layout.sequences).index_add(0, sequence_T, weight_T)
        sums_SE = torch.zeros(layout.sequences, hidden_TE.shape[1])
        return sums_SE.index_add(0, sequence_T, weight_T[:, None] * hidden_TE) / weights_S[:, None]

    with changed(yourbert.model.multitask, build_head=build), changed(Model, pooled=pooled):
        yield


STEPPERS: dict[str, Callable[[dict[str, Any], Run], OneByOne]] = {
    "sum": partial(Apart, total),
    "uncertainty": partial(Apart, Uncertainty),
    "dynamic average": partial(Apart, DynamicAverage),
    "heads first": HeadsFirst,
    "layer rates": LayerRates,
}
SHAPES = {"hidden layer": hidden_layer, "attention pooling": attention_pooling, "scopes marked": scopes_marked}
