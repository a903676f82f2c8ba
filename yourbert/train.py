"""The training loop: take a step's losses, divide by the true count, backward, clip, move, note, evaluate.

One loop serves fine-tuning on one task, on a mixture, and masked-language-model training: what differs is the
`Learner`, which makes the losses of a step and the dev scores. How a step is computed is a `Stepper`'s affair: one
operation after the other (`OneByOne`), or on a GPU as a whole (`yourbert/graph_step.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import NoReturn, Protocol

import torch
from torch import Tensor, nn

from yourbert.averaging import Average
from yourbert.checkpoint import Resume
from yourbert.distributed import ALONE, Gradients, Ranks
from yourbert.errors import fail
from yourbert.meter import Meter
from yourbert.optim import adamw, move, rate
from yourbert.outcome import Outcome, Sums
from yourbert.progress import Progress
from yourbert.settings import Training
from yourbert.stopping import Stop

LOGGER = logging.getLogger("yourbert")


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

    def rows_of(self, epoch: int, step: int) -> str:
        """Which rows a step reads, for a person."""
        ...

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

    def begin(self, epoch: int, step: int, sums: Sums) -> None:
        """An epoch starts or goes on: its next optimizer step is number `step` of the run; sums: of those before."""
        ...

    def step(self) -> tuple[int, int]:
        """Takes the next step; its rows and tokens."""
        ...

    def sums(self) -> Sums:
        """For each task the loss summed over the rows of this epoch so far, and their number.

        Raises UserError (T01) if a step's gradient was not finite; such a step and those after it moved nothing.
        """
        ...


def train(
    name: str,
    learner: Learner,
    settings: Training,
    resume: Resume,
    stepper_of: Callable[[Run], Stepper] | None = None,
    ranks: Ranks = ALONE,
) -> Outcome:
    """Trains `learner.model` in place and leaves it with the weights of the best epoch. Raises UserError (T01, X01).

    Asked to stop, it saves where it stands and ends; of several ranks each ends at once.
    stepper_of: who computes the steps; `OneByOne` where nobody else does. ranks: those that train this model together.
    """
    return _Loop(name, learner, settings, resume, stepper_of or OneByOne, ranks).run()


class _Loop:
    """The loop and what it carries from step to step: all that is not the same after an interruption unless saved."""

    def __init__(
        self,
        name: str,
        learner: Learner,
        settings: Training,
        resume: Resume,
        stepper_of: Callable[[Run], Stepper],
        ranks: Ranks,
    ) -> None:
        self.learner, self.settings, self.resume, self.ranks = learner, settings, resume, ranks
        self.learning = {n: p for n, p in learner.model.named_parameters() if p.requires_grad}
        self.optimizer = adamw(self.learning.values(), settings.weight_decay)
        self.ends = list(accumulate(learner.steps(epoch) for epoch in range(settings.epochs)))
        steps = self.ends[-1]
        self.gradients = Gradients(self.learning.values(), ranks)
        ranks.agree("the resume state", resume.saved_bytes())
        self.average = Average(self.learning, settings.average)
        self.best, self.outcome = _copy(self.learning), Outcome(steps)
        self._go_on(name)
        run = Run(name, learner, settings, self.learning, self.optimizer, self.gradients, steps)
        self.stepper = stepper_of(run)
        self.progress = Progress(name, steps, self.outcome.steps_done, shown=ranks.leads)
        self.cost_before = self.outcome.cost
        self.meter = Meter(next(iter(self.learning.values())).device, ranks)

    def run(self) -> Outcome:
        outcome, settings = self.outcome, self.settings
        with Stop(obeys=self.ranks.world == 1) as stop:
            while outcome.epoch < settings.epochs and not (settings.patience and outcome.stale >= settings.patience):
                self._epoch(stop)
                self._evaluate(stop)
        self.progress.close()
        self.gradients.close()
        _put(self.learning, self.best)
        outcome.parameters = sum(p.numel() for p in self.learning.values())
        return outcome

    def _epoch(self, stop: Stop) -> None:
        """The steps of an epoch that are left."""
        outcome, stepper = self.outcome, self.stepper
        self.learner.model.train()
        stepper.begin(outcome.epoch, outcome.steps_done, outcome.sums)
        while outcome.steps_done < self.ends[outcome.epoch]:
            rows, tokens = stepper.step()
            outcome.steps_done += 1
            outcome.tokens += tokens
            self.average.follow(outcome.steps_done)
            self.progress.advance(rows, lambda: mean_loss(stepper.sums()))
            self.meter.tick()
            if stop.asked:
                self._save()
                stop.end()
            if self.resume.due():
                self._save()

    def _evaluate(self, stop: Stop) -> None:
        """Ends an epoch: evaluates, and keeps the weights when they are the best so far."""
        outcome, sums = self.outcome, self.stepper.sums()
        self.learner.model.eval()
        try:
            with self.average.in_place(), stop.at_once():
                scores = self.learner.evaluate()
        except (KeyboardInterrupt, SystemExit):
            self._save()
            raise
        outcome.note(
            scores, self.learner.aggregate(scores), {task: total / rows for task, (total, rows) in sums.items()}
        )
        if outcome.best_epoch == outcome.epoch:
            with self.average.in_place():
                self.best = _copy(self.learning)
        self.progress.evaluated(outcome.epoch, mean_loss(sums), scores)
        outcome.cost = self.cost_before + self.meter.read()

    def _save(self) -> None:
        self.outcome.sums = self.stepper.sums()
        if self.ranks.world == 1:
            # Only the first of several ranks comes here, and all of them would have to ask.
            self.outcome.cost = self.cost_before + self.meter.read()
        kept = {"best": self.best, "average": self.average.weights}
        self.resume.save(self.learning, self.optimizer, kept, asdict(self.outcome))

    def _go_on(self, name: str) -> None:
        """Takes up what an interrupted run saved, if it did."""
        saved = self.resume.load(self.learning, self.optimizer)
        if saved is not None:
            kept, history = saved
            self.best, self.average.weights = kept["best"], kept.get("average", {})
            self.outcome = Outcome.from_json(history)
            if self.ranks.leads:
                LOGGER.info("%s: goes on from step %d of %d", name, self.outcome.steps_done, self.ends[-1])


class OneByOne:
    """Takes a step's losses as the learner makes them, each operation as it is called."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._epoch = self._step = 0
        self._losses: dict[str, float] = {}
        self._rows: dict[str, int] = {}

    def begin(self, epoch: int, step: int, sums: Sums) -> None:
        self._epoch, self._step = epoch, step
        self._losses = {task: total for task, (total, _) in sums.items()}
        self._rows = {task: rows for task, (_, rows) in sums.items()}

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
            not_finite(run, self._epoch, self._step)
        self._step += 1
        for part, loss in zip(parts, losses, strict=True):
            self._losses[part.task] = self._losses.get(part.task, 0.0) + float(loss) * part.rows
            self._rows[part.task] = self._rows.get(part.task, 0) + part.rows
        return sum(part.rows for part in parts), sum(part.tokens for part in parts)

    def sums(self) -> Sums:
        return {task: (total, self._rows[task]) for task, total in self._losses.items()}


def mean_loss(sums: Sums) -> float:
    """Over the rows of all tasks."""
    return sum(total for total, _ in sums.values()) / sum(rows for _, rows in sums.values())


def _set_rate(optimizer: torch.optim.AdamW, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


def not_finite(run: Run, epoch: int, step: int) -> NoReturn:
    """Raises UserError (T01): the step's gradient was not finite, and it moved nothing."""
    lr, rows = rate(step, run.steps, run.settings), run.learner.rows_of(epoch, step)
    fail(
        "T01",
        f"the gradient is not finite at step {step + 1}, epoch {epoch + 1} (lr {lr:.3g}; {rows})",
        where=run.name,
        fix="look at those rows, lower lr, raise warmup, or set precision: fp32; the last step's weights were kept",
    )


def _copy(learning: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in learning.items()}


def _put(learning: dict[str, nn.Parameter], weights: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, p in learning.items():
            p.copy_(weights[name])
