"""The training loop and its step: take a batch, forward, backward, clip, AdamW; evaluate at an epoch's end.

One loop serves fine-tuning on one task, on a mixture, and masked-language-model training. What differs is the
`Learner`, which makes the losses of a step and the dev scores. How a step is computed is up to the `Stepper`: here
`EagerStepper`, one operation after the other; in `graph/graph_step.py` the step as a CUDA graph. A training is three
calls:

    run = begin(name, learner, settings, resume)   # the optimizer, and what an interrupted run saved
    stepper = make_stepper(learner, run)           # takes model and optimizer over: graph/graph_step.py
    outcome = train(run, stepper)

A step whose gradient is not finite moves nothing and ends the run. A step that finds no memory is computed again in
micro-batches, whose gradients add up.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import NoReturn, Protocol

import torch
from torch import Tensor, nn

from yourbert.config.schema import Training
from yourbert.core.errors import fail
from yourbert.runtime.distributed import ALONE, Gradients, Ranks
from yourbert.runtime.meter import Meter
from yourbert.runtime.progress import Progress
from yourbert.training.checkpoint import Resume
from yourbert.training.history import Sums, TrainingHistory
from yourbert.training.optimizer import AdamW, FusedWeights, adamw, clear_gradients, optimizer_step, rate
from yourbert.training.signals import Stop

LOGGER = logging.getLogger("yourbert")
MEMORY_ERRORS = (RuntimeError, MemoryError)


@dataclass(frozen=True)
class StepLoss:
    """One task's share of a step: the loss to descend, already divided by its labels, and what it was made from.

    Of several ranks each has the loss of its own rows; rows and tokens are those of all ranks. of: the task's rows in
    the whole step, by which the loss is divided; more than `rows` where the batch is split into micro-batches, of which
    the first one counts for all. last: whether the step has no further part.
    """

    task: str
    loss: Tensor
    rows: int
    tokens: int
    of: int
    last: bool = True


def no_loss(device: torch.device) -> Tensor:
    """The loss of a rank that has no rows of a part: nothing gets a gradient from it."""
    return torch.zeros((), device=device, requires_grad=True)


class Learner(Protocol):
    """What the loop trains: `model`, the steps of each epoch, their losses, and the dev scores."""

    @property
    def model(self) -> nn.Module: ...

    def steps(self, epoch: int) -> int: ...

    def losses(self, epoch: int, step: int, micro_batches: int = 1) -> Iterator[StepLoss]:
        """The losses of step `step` of the run, each batch in so many parts of about as many tokens."""
        ...

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
    """What a training works on, and how far it is: all that is saved of an interrupted one.

    learning: the weights that learn, by name; gradients: theirs, summed over the ranks. ends: for each epoch, how many
    steps are done at its end. best: the weights of the best epoch so far.
    """

    name: str
    learner: Learner
    settings: Training
    resume: Resume
    learning: dict[str, nn.Parameter]
    optimizer: AdamW
    gradients: Gradients
    ends: list[int]
    outcome: TrainingHistory
    best: dict[str, Tensor]

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return self.ends[-1]

    @property
    def ranks(self) -> Ranks:
        return self.gradients.ranks


def begin(name: str, learner: Learner, settings: Training, resume: Resume, ranks: Ranks = ALONE) -> Run:
    """A training of `learner.model`, before its first step or where an interrupted one was saved.

    ranks: those that train this model together.
    """
    learning = {n: p for n, p in learner.model.named_parameters() if p.requires_grad}
    optimizer = adamw(learning.values(), settings.weight_decay)
    ends = list(accumulate(learner.steps(epoch) for epoch in range(settings.epochs)))
    gradients = Gradients(learning.values(), ranks)
    ranks.agree("the resume state", resume.saved_bytes())
    best, outcome = _copy(learning), TrainingHistory(ends[-1])
    if saved := resume.load(learning, optimizer):
        best, outcome = saved[0], TrainingHistory.from_json(saved[1])
        if ranks.leads:
            LOGGER.info("%s: goes on from step %d of %d", name, outcome.steps_done, ends[-1])
    return Run(name, learner, settings, resume, learning, optimizer, gradients, ends, outcome, best)


class Stepper(Protocol):
    """Computes the steps of a run, in order."""

    def start_epoch(self, epoch: int, step: int, sums: Sums) -> None:
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


class EagerStepper:
    """Takes a step's losses as the learner makes them, each operation as it is called.

    fusion: the weights that fused layers took over, if any did (`yourbert/training/fused/fusion.py`).
    """

    def __init__(self, run: Run, fusion: FusedWeights | None = None) -> None:
        self.run, self.fusion = run, fusion
        self._epoch = self._step = 0
        self._losses: dict[str, float] = {}
        self._rows: dict[str, int] = {}

    def start_epoch(self, epoch: int, step: int, sums: Sums) -> None:
        if self.fusion:
            self.fusion.sync_from_master()  # the evaluation between two epochs may have put other weights in place
        self._epoch, self._step = epoch, step
        self._losses = {task: total for task, (total, _) in sums.items()}
        self._rows = {task: rows for task, (_, rows) in sums.items()}

    def step(self) -> tuple[int, int]:
        run = self.run
        for group in run.optimizer.param_groups:
            group["lr"] = self._rate()
        parts, losses = self._backward()
        norm = optimizer_step(run.optimizer, run.learning.values(), run.settings.max_grad_norm, fusion=self.fusion)
        if not torch.isfinite(norm):
            not_finite(run, self._epoch, self._step)
        for task in dict.fromkeys(part.task for part in parts):
            own = [(part, float(loss)) for part, loss in zip(parts, losses, strict=True) if part.task == task]
            # Each loss was divided by all rows of the task's batch, so that the parts add up to the sum over them.
            self._note(task, sum(loss * part.of for part, loss in own), sum(part.rows for part, _ in own))
        self._step += 1
        return sum(part.rows for part in parts), sum(part.tokens for part in parts)

    def _rate(self) -> float:
        return rate(self._step, self.run.steps, self.run.settings)

    def _backward(self) -> tuple[list[StepLoss], list[Tensor]]:
        """The parts of a step and their losses, with their gradients; in more micro-batches where memory is short."""
        run, outcome = self.run, self.run.outcome
        while True:
            parts = []
            try:
                for part in run.learner.losses(self._epoch, self._step, outcome.micro_batches):
                    # At once: the tape of one part is freed before the next one is computed.
                    run.gradients.backward(part.loss, part.task, part.last)
                    parts.append(part)
                return parts, run.gradients.finish([part.loss for part in parts])
            except MEMORY_ERRORS as error:
                if not out_of_memory(error):
                    raise
                clear_gradients(run.optimizer, self.fusion)
                # Several ranks would have to agree on the number, and a row cannot be split.
                if run.ranks.world > 1 or outcome.micro_batches >= run.settings.batch_size:
                    no_memory(run, self._epoch, self._step)
            outcome.micro_batches *= 2
            LOGGER.warning(
                "%s: out of memory at step %d: from here on each batch is read in %d pieces, whose gradients add up",
                *(run.name, self._step + 1, outcome.micro_batches),
            )

    def _note(self, task: str, total: float, rows: int) -> None:
        """Adds up a task's loss over the rows of a step, and says so when it jumped."""
        self._losses[task] = self._losses.get(task, 0.0) + total
        self._rows[task] = self._rows.get(task, 0) + rows
        usual = self.run.outcome.spikes.record(task, self._step + 1, total / rows)
        if usual is not None:
            LOGGER.warning(
                "T03 %s: at step %d the loss of %s is %.3g, usually %.3g (lr %.3g; %s)",
                *(self.run.name, self._step + 1, task, total / rows, usual, self._rate()),
                self.run.learner.rows_of(self._epoch, self._step),
            )

    def sums(self) -> Sums:
        return {task: (total, self._rows[task]) for task, total in self._losses.items()}


def mean_loss(sums: Sums) -> float:
    """Over the rows of all tasks."""
    return sum(total for total, _ in sums.values()) / sum(rows for _, rows in sums.values())


def not_finite(run: Run, epoch: int, step: int) -> NoReturn:
    """Raises UserError (T01): the step's gradient was not finite, and it moved nothing."""
    lr, rows = rate(step, run.steps, run.settings), run.learner.rows_of(epoch, step)
    fail(
        "T01",
        f"the gradient is not finite at step {step + 1}, epoch {epoch + 1} (lr {lr:.3g}; {rows})",
        where=run.name,
        fix="look at those rows, lower lr, raise warmup, or set precision: fp32; the last step's weights were kept",
    )


def out_of_memory(error: BaseException) -> bool:
    """Whether it says that there is no memory; PyTorch's allocator for the host has no type of its own for that."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return "DefaultCPUAllocator" in str(error) and "allocate memory" in str(error)


def no_memory(run: Run, epoch: int, step: int) -> NoReturn:
    """Raises UserError (R08): a step does not fit into memory."""
    fail(
        "R08",
        f"out of memory at step {step + 1}, epoch {epoch + 1} ({run.learner.rows_of(epoch, step)})",
        where=run.name,
        fix="halve batch_size or max_length; the same command then goes on, or begins anew where settings changed",
    )


def train(run: Run, stepper: Stepper) -> TrainingHistory:
    """Takes the run's steps that are left, and leaves its model with the weights of the best epoch.

    Asked to stop, it saves where it stands and ends; of several ranks each ends at once. Raises UserError (T01, X01).
    """
    return _Loop(run, stepper).train()


class _Loop:
    def __init__(self, run: Run, stepper: Stepper) -> None:
        self.run, self.stepper, self.outcome = run, stepper, run.outcome
        self.progress = Progress(run.name, run.steps, run.outcome.steps_done, shown=run.ranks.leads)
        self.cost_before = run.outcome.cost
        self.meter = Meter(next(iter(run.learning.values())).device, run.ranks)

    def train(self) -> TrainingHistory:
        run, outcome = self.run, self.outcome
        with Stop(obeys=run.ranks.world == 1) as stop:
            while (
                outcome.epoch < run.settings.epochs
                and not 0 < run.settings.early_stopping_patience <= outcome.epochs_without_improvement
            ):
                self._epoch(stop)
                self._evaluate(stop)
        self.progress.close()
        run.gradients.close()
        with torch.no_grad():
            for name, p in run.learning.items():
                p.copy_(run.best[name])
        outcome.parameters = sum(p.numel() for p in run.learning.values())
        self.progress.kept(outcome.best_epoch, outcome.epoch)
        return outcome

    def _epoch(self, stop: Stop) -> None:
        """The steps of an epoch that are left."""
        run, outcome, stepper = self.run, self.outcome, self.stepper
        run.learner.model.train()
        stepper.start_epoch(outcome.epoch, outcome.steps_done, outcome.sums)
        while outcome.steps_done < run.ends[outcome.epoch]:
            rows, tokens = stepper.step()
            outcome.steps_done += 1
            outcome.tokens += tokens
            self.progress.advance(rows, lambda: mean_loss(stepper.sums()))
            self.meter.tick()
            if stop.asked:
                self._save()
                stop.end()
            if run.resume.due():
                self._save()

    def _evaluate(self, stop: Stop) -> None:
        """Ends an epoch: evaluates, and keeps the weights when they are the best so far."""
        run, outcome, sums = self.run, self.outcome, self.stepper.sums()
        run.learner.model.eval()
        try:
            with stop.at_once():
                scores = run.learner.evaluate()
        except (KeyboardInterrupt, SystemExit):
            self._save()
            raise
        losses = {task: total / rows for task, (total, rows) in sums.items()}
        outcome.record_epoch(scores, run.learner.aggregate(scores), losses)
        if outcome.best_epoch == outcome.epoch:
            run.best.update(_copy(run.learning))
        self.progress.evaluated(outcome.epoch, mean_loss(sums), scores)
        outcome.cost = self.cost_before + self.meter.read()

    def _save(self) -> None:
        run, outcome = self.run, self.outcome
        outcome.sums = self.stepper.sums()
        if run.ranks.world == 1:
            # Only the first of several ranks comes here, and all of them would have to ask.
            outcome.cost = self.cost_before + self.meter.read()
        run.resume.save(run.learning, run.optimizer, run.best, asdict(outcome))


def _copy(learning: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in learning.items()}
