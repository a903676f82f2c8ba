"""The history of a training: steps, learning curve, best epoch, loss spikes; part of the resume state."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean, median

from yourbert.core.cost import Cost
from yourbert.training.checkpoint import History

# Task -> the loss summed over the rows of an epoch so far, and their number.
Sums = dict[str, tuple[float, int]]

WINDOW = 50  # steps of a task whose losses are remembered
FIRST = 20  # steps of a task before anything can be a spike
TIMES = 10.0


@dataclass
class Spikes:
    """Loss spikes: steps with invalid rows, or a learning rate that is too high.

    A spike is more than ten times the median of the task's last steps and more than the task's initial loss. Without
    the second condition one hard batch late in training, when nearly all losses are close to 0, would count.

    recent, began: for each task the losses of its last steps, and the mean of its first ones. steps: those with spikes.
    """

    recent: dict[str, list[float]] = field(default_factory=dict)
    began: dict[str, float] = field(default_factory=dict)
    steps: list[int] = field(default_factory=list)

    def record(self, task: str, step: int, loss: float) -> float | None:
        """Adds the loss of a step; returns the usual loss if this one is a spike."""
        recent = self.recent.setdefault(task, [])
        usual = median(recent) if task in self.began else None
        recent.append(loss)
        del recent[:-WINDOW]
        if task not in self.began and len(recent) == FIRST:
            self.began[task] = fmean(recent)
        if usual is None or loss <= max(TIMES * usual, self.began[task]):
            return None
        self.steps.append(step)
        return usual


@dataclass
class TrainingHistory:
    """The history of a run.

    curve: a line (step, epoch, task, loss, dev) per task and epoch, both counted from 1; the loss is None for a task
    without rows in the epoch. sums: of the current epoch, see `Stepper`. micro_batches: per batch; more than one after
    memory ran out. best_epoch, best_step: where the dev score was highest (`best`). tokens: read so far. parameters:
    the number of trainable weights. cost: includes the evaluations.
    """

    steps: int
    best_epoch: int = 0
    best_step: int = 0
    best: float = -1.0
    epochs_without_improvement: int = 0
    steps_done: int = 0
    epoch: int = 0
    tokens: int = 0
    parameters: int = 0
    cost: Cost = field(default=Cost(), compare=False)
    curve: list[tuple[int, int, str, float | None, float]] = field(default_factory=list)
    sums: Sums = field(default_factory=dict)
    micro_batches: int = 1
    spikes: Spikes = field(default_factory=Spikes)

    def record_epoch(self, scores: dict[str, float], value: float, losses: dict[str, float]) -> None:
        """Adds an epoch to the curve. value: the aggregate of all scores, which chooses the best epoch."""
        self.epoch += 1
        self.sums = {}
        for task, score in scores.items():
            self.curve.append((self.steps_done, self.epoch, task, losses.get(task), score))
        if value > self.best:
            self.best, self.epochs_without_improvement = value, 0
            self.best_epoch, self.best_step = self.epoch, self.steps_done
        else:
            self.epochs_without_improvement += 1

    @classmethod
    def from_json(cls, history: History) -> TrainingHistory:
        read = {
            "curve": [tuple(line) for line in history["curve"]],
            "cost": Cost(**history["cost"]),
            "spikes": Spikes(**history["spikes"]),
            "sums": {task: (total, rows) for task, (total, rows) in history["sums"].items()},
        }
        return cls(**{**history, **read})
