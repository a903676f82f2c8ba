"""The training loop: take a step's losses, divide by the true count, backward, clip, move, note, evaluate.

One loop serves fine-tuning on one task, on a mixture, and masked-language-model training: what differs is the
`Learner`, which makes the losses of a step and the dev scores. How a step is computed is a `Stepper`'s affair: one
operation after the other (`OneByOne`), or on a GPU as a whole (`yourbert/graph_step.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import NoReturn, Protocol

import torch
from torch import Tensor, nn

from yourbert.averaging import Average
from yourbert.checkpoint import History, Resume
from yourbert.cost import Cost
from yourbert.distributed import ALONE, Gradients, Ranks
from yourbert.errors import fail
from yourbert.meter import Meter
from yourbert.optim import adamw, move, rate
from yourbert.progress import Progress
from yourbert.settings import Training


@dataclass(frozen=True)
class StepLoss:
    """One task's share of a step: the loss to descend, already divided by its labels, and what it was made from.

    Of several ranks each has the loss of its own rows; rows and tokens are those of all ranks. last: whether the step
    has no further part.
    """

    task: str
    loss: Tensor
    rows: int
    tokens: int
    last: bool = True


def no_loss(device: torch.device) -> Tensor:
    """The loss of a rank that has no rows of a part: nothing gets a gradient from it."""
    return torch.zeros((), device=device, requires_grad=True)


class Learner(Protocol):
    """What the loop trains: `model`, the steps of each epoch, their losses, and the dev scores."""

    @property
    def model(self) -> nn.Module: ...

    def steps(self, epoch: int) -> int: ...

    def losses(self, epoch: int, step: int) -> Iterator[StepLoss]: ...

    def evaluate(self) -> dict[str, float]:
        """The dev score of each task."""
        ...

    def aggregate(self, scores: dict[str, float]) -> float:
        """One number out of the dev scores, higher is better: it chooses the checkpoint to keep."""
        ...


@dataclass(frozen=True)
class Run:
    """What the steps of a training work on.

    learning: the weights that move, by name; gradients: theirs, summed over the ranks; steps: of the whole run.
    """

    name: str
    learner: Learner
    settings: Training
    learning: dict[str, nn.Parameter]
    optimizer: torch.optim.AdamW
    gradients: Gradients
    steps: int


class Stepper(Protocol):
    """Computes the steps of a run, in order."""

    def begin(self, epoch: int, step: int) -> None:
        """An epoch starts; its first optimizer step is number `step` of the run."""
        ...

    def step(self) -> tuple[int, int]:
        """Takes the next step; its rows and tokens."""
        ...

    def sums(self) -> dict[str, tuple[float, int]]:
        """For each task the loss summed over the rows of this epoch so far, and their number.

        Raises UserError (T01) if a step's gradient was not finite; such a step and those after it moved nothing.
        """
        ...


@dataclass
class Outcome:
    """What a run did. curve: a line (step, epoch, task, loss, dev) per task and epoch, from 1;
    loss is None for a task that an epoch left out.

    best_epoch: the epoch, from 1, with the highest dev score, `best`, after `best_step` of all the `steps`; stale:
    evaluations since. tokens, parameters: how many were read and how many learnt. cost: with the evaluations.
    """

    steps: int
    best_epoch: int = 0
    best_step: int = 0
    best: float = -1.0
    stale: int = 0
    steps_done: int = 0
    epoch: int = 0
    tokens: int = 0
    parameters: int = 0
    cost: Cost = field(default=Cost(), compare=False)
    curve: list[tuple[int, int, str, float | None, float]] = field(default_factory=list)


def train(
    name: str,
    learner: Learner,
    settings: Training,
    resume: Resume,
    stepper_of: Callable[[Run], Stepper] | None = None,
    ranks: Ranks = ALONE,
) -> Outcome:
    """Trains `learner.model` in place and leaves it with the weights of the best epoch. Raises UserError (T01, X01).

    stepper_of: who computes the steps; `OneByOne` where nobody else does. ranks: those that train this model together.
    """
    learning = {n: p for n, p in learner.model.named_parameters() if p.requires_grad}
    optimizer = adamw(learning.values(), settings.weight_decay)
    steps = sum(learner.steps(epoch) for epoch in range(settings.epochs))
    gradients = Gradients(learning.values(), ranks)
    ranks.agree("the resume state", resume.saved_bytes())
    average = Average(learning, settings.average)
    best, outcome = _start(learning, optimizer, average, resume, steps)
    stepper = (stepper_of or OneByOne)(Run(name, learner, settings, learning, optimizer, gradients, steps))
    progress = Progress(name, steps, outcome.steps_done, shown=ranks.leads)
    before, meter = outcome.cost, Meter(next(iter(learning.values())).device, ranks)
    for epoch in range(outcome.epoch, settings.epochs):
        if settings.patience and outcome.stale >= settings.patience:
            break
        learner.model.train()
        stepper.begin(epoch, outcome.steps_done)
        for _ in range(learner.steps(epoch)):
            rows, tokens = stepper.step()
            outcome.steps_done += 1
            average.follow(outcome.steps_done)
            outcome.tokens += tokens
            progress.advance(rows, lambda: mean_loss(stepper.sums()))
            meter.tick()
        outcome.epoch = epoch + 1
        sums = stepper.sums()
        with average.in_place():
            scores = _note(learner, outcome, {task: total / count for task, (total, count) in sums.items()})
            if outcome.best_epoch == outcome.epoch:
                best = _copy(learning)
        progress.evaluated(outcome.epoch, mean_loss(sums), scores)
        outcome.cost = before + meter.read()
        if resume.due() and outcome.epoch < settings.epochs:
            resume.save(learning, optimizer, {"best": best, "average": average.weights}, asdict(outcome))
    progress.close()
    gradients.close()
    _put(learning, best)
    outcome.parameters = sum(p.numel() for p in learning.values())
    return outcome


class OneByOne:
    """Takes a step's losses as the learner makes them, each operation as it is called."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._epoch = self._step = 0
        self._losses: dict[str, float] = {}
        self._rows: dict[str, int] = {}

    def begin(self, epoch: int, step: int) -> None:
        self._epoch, self._step, self._losses, self._rows = epoch, step, {}, {}

    def step(self) -> tuple[int, int]:
        run, parts = self.run, []
        lr = rate(self._step, run.steps, run.settings)
        _set_rate(run.optimizer, lr)
        for part in run.learner.losses(self._epoch, self._step):
            run.gradients.backward(part.loss, part.task, part.last)
            parts.append(part)
        losses = run.gradients.finish([part.loss for part in parts])
        norm = move(run.optimizer, run.learning.values(), run.settings.clip)
        if not torch.isfinite(norm):
            not_finite(run.name, self._step, lr)
        self._step += 1
        for part, loss in zip(parts, losses, strict=True):
            self._losses[part.task] = self._losses.get(part.task, 0.0) + float(loss) * part.rows
            self._rows[part.task] = self._rows.get(part.task, 0) + part.rows
        return sum(part.rows for part in parts), sum(part.tokens for part in parts)

    def sums(self) -> dict[str, tuple[float, int]]:
        return {task: (total, self._rows[task]) for task, total in self._losses.items()}


def mean_loss(sums: dict[str, tuple[float, int]]) -> float:
    """Over the rows of all tasks."""
    return sum(total for total, _ in sums.values()) / sum(rows for _, rows in sums.values())


def _start(
    learning: dict[str, nn.Parameter], optimizer: torch.optim.AdamW, average: Average, resume: Resume, steps: int
) -> tuple[dict[str, Tensor], Outcome]:
    """The saved state of an interrupted run, or a fresh one."""
    saved = resume.load(learning, optimizer)
    if saved is not None:
        kept, history = saved
        average.weights = kept.get("average", {})
        return kept["best"], _outcome(history)
    return _copy(learning), Outcome(steps)


def _outcome(history: History) -> Outcome:
    curve = [tuple(line) for line in history["curve"]]
    return Outcome(**{**history, "curve": curve, "cost": Cost(**history["cost"])})


def _set_rate(optimizer: torch.optim.AdamW, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


def not_finite(name: str, step: int, lr: float) -> NoReturn:
    fail(
        "T01",
        f"the gradient is not finite at step {step + 1} (lr {lr:.3g})",
        where=name,
        fix="lower lr, raise warmup, or set precision: fp32; the weights of the last step were kept",
    )


def _note(learner: Learner, outcome: Outcome, losses: dict[str, float]) -> dict[str, float]:
    """Evaluates, adds the lines of the curve, and marks the epoch when it is the best so far."""
    learner.model.eval()
    scores = learner.evaluate()
    for task, score in scores.items():
        outcome.curve.append((outcome.steps_done, outcome.epoch, task, losses.get(task), score))
    value = learner.aggregate(scores)
    if value > outcome.best:
        outcome.best, outcome.stale = value, 0
        outcome.best_epoch, outcome.best_step = outcome.epoch, outcome.steps_done
    else:
        outcome.stale += 1
    return scores


def _copy(learning: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in learning.items()}


def _put(learning: dict[str, nn.Parameter], weights: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, p in learning.items():
            p.copy_(weights[name])
