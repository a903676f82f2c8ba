"""Notes a training step whose loss jumps far above those before it: odd rows, or a rate that is too high.

A jump is ten times the median of the task's last steps and more than the task began with. Without the second, one hard
batch late in training, when nearly all losses are close to 0, would be one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean, median

WINDOW = 50  # steps of a task whose losses are remembered
FIRST = 20  # steps of a task before anything can be a jump
TIMES = 10.0


@dataclass
class Spikes:
    """recent, began: of each task, the losses of its last steps and the mean of its first. steps: where jumps were."""

    recent: dict[str, list[float]] = field(default_factory=dict)
    began: dict[str, float] = field(default_factory=dict)
    steps: list[int] = field(default_factory=list)

    def note(self, task: str, step: int, loss: float) -> float | None:
        """Takes in a step's loss; the usual loss where this one is a jump."""
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
