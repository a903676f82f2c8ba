"""The training loop and its step: take a batch, forward, backward, clip, AdamW; evaluate at an epoch's end.

One loop serves fine-tuning on one task, on a mixture, and masked-language-model training. What differs is the
`Learner`, which makes the losses of a step and the dev scores. How a step is computed is up to the `Stepper`: here
`EagerStepper`, one operation after the other; in `graph/graph_step.py` the step as a CUDA graph. A training is three
calls:

    run = begin(name, learner, settings, resume)   # the optimizer, and what an interrupted run saved
    stepper = make_stepper(learner, run)           # takes model and optimizer over: graph/graph_step.py
    outcome = train(run, stepper)

A step with a gradient that is not finite updates no weight and ends the run. A step that runs out of memory is
repeated in micro-batches with accumulated gradients.
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

logger = logging.getLogger("yourbert")
MEMORY_ERRORS = (RuntimeError, MemoryError)


@dataclass(frozen=True)
class StepLoss:
    """One backward pass of a step: the loss of one task, or of one micro-batch of it.

    loss: summed over this rank's labels and divided by `batch_rows`. rows, tokens: of all ranks. batch_rows: the task's
    rows in the whole optimizer step (the loss divisor); larger than `rows` if the batch is split into micro-batches, of
    which only the first reports `rows`. last: whether this is the last backward pass of the step.
    """

    task: str
    loss: Tensor
    rows: int
    tokens: int
    batch_rows: int
    last: bool = True


def no_loss(device: torch.device) -> Tensor:
    """The loss of a rank without rows in this backward pass: it has no gradient."""
    return torch.zeros((), device=device, requires_grad=True)


class Learner(Protocol):
    """What the loop trains: a model, its losses in each step, and its dev scores."""

    @property
    def model(self) -> nn.Module: ...

    def steps(self, epoch: int) -> int: ...

    def losses(self, epoch: int, step: int, micro_batches: int = 1) -> Iterator[StepLoss]:
        """The losses of step `step` of the run, from 0; each batch is split into micro-batches of similar size."""
        ...

    def rows_of(self, epoch: int, step: int) -> str:
        """The rows of a step, for a message."""
        ...

    def evaluate(self) -> dict[str, float]:
        """The dev score of each task."""
        ...

    def aggregate(self, scores: dict[str, float]) -> float:
        """One number from the dev scores; the epoch where it is highest is kept."""
        ...


@dataclass(frozen=True)
class Run:
    """The state of a training; everything that a resume needs is in here.

    learning: the trainable weights by name. gradients: sums their gradients over ranks. ends: steps done at the end of
    each epoch. best: the weights of the best epoch so far.
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
        """Optimizer steps of the whole run."""
        return self.ends[-1]

    @property
    def ranks(self) -> Ranks:
        return self.gradients.ranks


def begin(name: str, learner: Learner, settings: Training, resume: Resume, ranks: Ranks = ALONE) -> Run:
    """A training of `learner.model`, before its first step, or restored from the state of an interrupted one.

    ranks: the processes that train this model together.
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
            logger.info("%s: resumes from step %d of %d", name, outcome.steps_done, ends[-1])
    return Run(name, learner, settings, resume, learning, optimizer, gradients, ends, outcome, best)


class Stepper(Protocol):
    """Computes the steps of a run, in order."""

    def start_epoch(self, epoch: int, step: int, sums: Sums) -> None:
        """Starts or resumes an epoch at step `step` of the run; sums: the losses of the epoch's earlier steps."""
        ...

    def step(self) -> tuple[int, int]:
        """Runs the next optimizer step; returns its rows and tokens."""
        ...

    def sums(self) -> Sums:
        """For each task the sum of losses over this epoch's rows so far, and the number of rows.

        Raises UserError (T01) if the gradient of a step was not finite; it and all later steps updated nothing.
        """
        ...


class EagerStepper:
    """Runs each operation of a step as it is called.

    fusion: the weights of fused layers, if there are any (`yourbert/training/fused/fusion.py`).
    """

    def __init__(self, run: Run, fusion: FusedWeights | None = None) -> None:
        self.run, self.fusion = run, fusion
        self._epoch = self._step = 0
        self._losses: dict[str, float] = {}
        self._rows: dict[str, int] = {}

    def start_epoch(self, epoch: int, step: int, sums: Sums) -> None:
        if self.fusion:
            self.fusion.sync_from_master()  # an evaluation may have replaced the weights between epochs
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
            # Undo the division by the rows of the batch: micro-batch losses then add up to the sum over its rows.
            self._note(task, sum(loss * part.batch_rows for part, loss in own), sum(part.rows for part, _ in own))
        self._step += 1
        return sum(part.rows for part in parts), sum(part.tokens for part in parts)

    def _rate(self) -> float:
        return rate(self._step, self.run.steps, self.run.settings)

    def _backward(self) -> tuple[list[StepLoss], list[Tensor]]:
        """Forward and backward of a step; on running out of memory again with twice as many micro-batches."""
        run, outcome = self.run, self.run.outcome
        while True:
            parts = []
            try:
                for part in run.learner.losses(self._epoch, self._step, outcome.micro_batches):
                    # Right away, which frees the autograd graph of one part before the next one is built.
                    run.gradients.backward(part.loss, part.task, part.last)
                    parts.append(part)
                return parts, run.gradients.finish([part.loss for part in parts])
            except MEMORY_ERRORS as error:
                if not out_of_memory(error):
                    raise
                clear_gradients(run.optimizer, self.fusion)
                # Ranks would have to agree on the number, and a row cannot be split.
                if run.ranks.world > 1 or outcome.micro_batches >= run.settings.batch_size:
                    no_memory(run, self._epoch, self._step)
            outcome.micro_batches *= 2
            logger.warning(
                "%s: out of memory at step %d: from here on each batch is split into %d micro-batches",
                *(run.name, self._step + 1, outcome.micro_batches),
            )

    def _note(self, task: str, total: float, rows: int) -> None:
        """Adds a step's loss to the sums of its task, and warns about a spike."""
        self._losses[task] = self._losses.get(task, 0.0) + total
        self._rows[task] = self._rows.get(task, 0) + rows
        usual = self.run.outcome.spikes.record(task, self._step + 1, total / rows)
        if usual is not None:
            logger.warning(
                "T03 %s: at step %d the loss of %s is %.3g, usually %.3g (lr %.3g; %s)",
                *(self.run.name, self._step + 1, task, total / rows, usual, self._rate()),
                self.run.learner.rows_of(self._epoch, self._step),
            )

    def sums(self) -> Sums:
        return {task: (total, self._rows[task]) for task, total in self._losses.items()}


def mean_loss(sums: Sums) -> float:
    """The mean loss over the rows of all tasks."""
    return sum(total for total, _ in sums.values()) / sum(rows for _, rows in sums.values())


def not_finite(run: Run, epoch: int, step: int) -> NoReturn:
    """Raises UserError (T01): the gradient of a step was not finite, so it updated no weight."""
    lr, rows = rate(step, run.steps, run.settings), run.learner.rows_of(epoch, step)
    fail(
        "T01",
        f"the gradient is not finite at step {step + 1}, epoch {epoch + 1} (lr {lr:.3g}; {rows})",
        where=run.name,
        fix="look at those rows, lower lr, raise warmup_ratio, or set precision: fp32; the last weights are kept",
    )


def out_of_memory(error: BaseException) -> bool:
    """Whether the error means out of memory; PyTorch's CPU allocator has no exception type for that."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return "DefaultCPUAllocator" in str(error) and "allocate memory" in str(error)


def no_memory(run: Run, epoch: int, step: int) -> NoReturn:
    """Raises UserError (R08): a step does not fit into memory."""
    fail(
        "R08",
        f"out of memory at step {step + 1}, epoch {epoch + 1} ({run.learner.rows_of(epoch, step)})",
        where=run.name,
        fix="halve batch_size or max_length; the same command resumes, or starts again if settings changed",
    )


def train(run: Run, stepper: Stepper) -> TrainingHistory:
    """Runs the remaining steps; afterwards the model has the weights of the best epoch.

    On SIGINT or SIGTERM it saves the resume state and exits; with several ranks each exits at once. Raises UserError
    (T01, X01).
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
        """The remaining steps of an epoch."""
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
        """Ends an epoch: evaluates on dev, and keeps the weights if the score is the best so far."""
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
            # Reading the meter is a collective operation, and only the first rank gets here.
            outcome.cost = self.cost_before + self.meter.read()
        run.resume.save(run.learning, run.optimizer, run.best, asdict(outcome))


def _copy(learning: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in learning.items()}
