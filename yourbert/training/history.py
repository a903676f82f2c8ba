"""What a training did so far: its steps, its curve, its best epoch; saved with the weights of an interrupted run."""

from __future__ import annotations

from dataclasses import dataclass, field

from yourbert.core.cost import Cost
from yourbert.training.checkpoint import History
from yourbert.training.spikes import Spikes

# Task -> the loss summed over the rows of an epoch so far, and their number.
Sums = dict[str, tuple[float, int]]


@dataclass
class Outcome:
    """What a run did. curve: a line (step, epoch, task, loss, dev) per task and epoch, from 1;
    loss is None for a task that an epoch left out. sums: of the epoch that has begun, see `Stepper`.
    pieces: in how many parts a batch is read. spikes: steps whose loss was odd.

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
    sums: Sums = field(default_factory=dict)
    pieces: int = 1
    spikes: Spikes = field(default_factory=Spikes)

    def note(self, scores: dict[str, float], value: float, losses: dict[str, float]) -> None:
        """An epoch ends: adds its lines to the curve, and marks it when it is the best so far. value: of all scores."""
        self.epoch += 1
        self.sums = {}
        for task, score in scores.items():
            self.curve.append((self.steps_done, self.epoch, task, losses.get(task), score))
        if value > self.best:
            self.best, self.stale = value, 0
            self.best_epoch, self.best_step = self.epoch, self.steps_done
        else:
            self.stale += 1

    @classmethod
    def from_json(cls, history: History) -> Outcome:
        read = {
            "curve": [tuple(line) for line in history["curve"]],
            "cost": Cost(**history["cost"]),
            "spikes": Spikes(**history["spikes"]),
            "sums": {task: (total, rows) for task, (total, rows) in history["sums"].items()},
        }
        return cls(**{**history, **read})
