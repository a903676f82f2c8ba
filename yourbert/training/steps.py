"""A training step: what a learner gives, what a stepper makes of it, and the plain stepper.

How a step is computed is a `Stepper`'s affair: here one operation after the other, on a GPU as a whole
(`yourbert/training/graph/graph_step.py`). A step whose gradient is not finite moves nothing and ends the run; one that
finds no memory is read in more pieces, whose gradients add up.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn, Protocol

import torch
from torch import Tensor, nn

from yourbert.config.schema import Training
from yourbert.core.errors import fail
from yourbert.runtime.distributed import Gradients
from yourbert.training.history import Sums
from yourbert.training.optimizer import AdamW, move, rate
from yourbert.training.spikes import Spikes

LOGGER = logging.getLogger("yourbert")
MEMORY_ERRORS = (RuntimeError, MemoryError)


@dataclass(frozen=True)
class StepLoss:
    """One task's share of a step: the loss to descend, already divided by its labels, and what it was made from.

    Of several ranks each has the loss of its own rows; rows and tokens are those of all ranks. of: the task's rows in
    the whole step, by which the loss is divided; more than `rows` where memory asks for several parts of one task, of
    which the first counts for all. last: whether the step has no further part.
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
    """What the loop trains: `model`, the steps of each epoch, their losses, and the dev scores.

    pieces: in how many parts, of about as many tokens, each batch is read.
    """

    pieces: int

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

    learning: the weights that move, by name; gradients: theirs, summed over the ranks; steps: of the whole run;
    spikes: where a stepper that knows each step's loss notes the odd ones.
    """

    name: str
    learner: Learner
    settings: Training
    learning: dict[str, nn.Parameter]
    optimizer: AdamW
    gradients: Gradients
    steps: int
    spikes: Spikes = field(default_factory=Spikes)


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
        run = self.run
        _set_rate(run.optimizer, self._rate())
        parts, losses = self._backward()
        norm = move(run.optimizer, run.learning.values(), run.settings.clip)
        if not torch.isfinite(norm):
            not_finite(run, self._epoch, self._step)
        for task in dict.fromkeys(part.task for part in parts):
            own = [(part, float(loss)) for part, loss in zip(parts, losses, strict=True) if part.task == task]
            self._note(task, sum(loss * part.of for part, loss in own), sum(part.rows for part, _ in own))
        self._step += 1
        return sum(part.rows for part in parts), sum(part.tokens for part in parts)

    def _rate(self) -> float:
        return rate(self._step, self.run.steps, self.run.settings)

    def _note(self, task: str, total: float, rows: int) -> None:
        """Adds up a task's loss over the rows of a step, and says so when it jumped."""
        self._losses[task] = self._losses.get(task, 0.0) + total
        self._rows[task] = self._rows.get(task, 0) + rows
        usual = self.run.spikes.note(task, self._step + 1, total / rows)
        if usual is not None:
            LOGGER.warning(
                "T03 %s: at step %d the loss of %s is %.3g, usually %.3g (lr %.3g; %s)",
                *(self.run.name, self._step + 1, task, total / rows, usual, self._rate()),
                self.run.learner.rows_of(self._epoch, self._step),
            )

    def _backward(self) -> tuple[list[StepLoss], list[Tensor]]:
        """The parts of a step and their losses, with their gradients; read in more pieces where memory is short."""
        run = self.run
        while True:
            parts = []
            try:
                for part in run.learner.losses(self._epoch, self._step):
                    run.gradients.backward(part.loss, part.task, part.last)
                    parts.append(part)
                return parts, run.gradients.finish([part.loss for part in parts])
            except MEMORY_ERRORS as error:
                if not out_of_memory(error):
                    raise
                run.optimizer.zero_grad(set_to_none=True)
                if run.gradients.ranks.world > 1 or run.learner.pieces >= run.settings.batch_size:
                    no_memory(run, self._epoch, self._step)
            run.learner.pieces *= 2
            LOGGER.warning(
                "%s: out of memory at step %d: from here on each batch is read in %d pieces, whose gradients add up",
                *(run.name, self._step + 1, run.learner.pieces),
            )

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
