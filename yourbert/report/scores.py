"""The rows of the score table: each task's single-task model beside the multi-task models, then the means over tasks.

Both the Markdown report and the page render them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from yourbert.core.tasks import Split
from yourbert.evaluation.significance import Comparison
from yourbert.report.load import Gathered
from yourbert.report.results import OVERALL, SINGLE_TASK, Cell, Figures


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The scores of every model on one task, or in the mean over several.

    cells: by model, the single-task model first, under "single_task"; None where undefined. comparisons: by model, on
    dev, against the first.
    """

    name: str
    metric: str
    cells: Mapping[str, Cell | None]
    comparisons: Mapping[str, Comparison | None]

    @property
    def best(self) -> float | None:
        return max((cell.mean for cell in self.cells.values() if cell), default=None)


def scored(gathered: Gathered, figures: Figures, split: Split) -> Iterator[Scored]:
    """Every task with labels in the split; then the means, for each set of tasks that a multi-task model has."""
    comparisons = figures.comparisons if split == "dev" else {}
    for task, facts in gathered.tasks.items():
        runs = [run for run in (task, *gathered.mixtures_of(task)) if (task, split, run) in gathered.predictions]
        if runs:
            yield Scored(
                name=task,
                metric=facts.metric,
                cells={SINGLE_TASK if run == task else run: figures.cells.get((task, split, run)) for run in runs},
                comparisons={run: comparisons.get((task, run)) for run in runs},
            )
    for tasks, mixtures in gathered.alike.items():
        if single := figures.overall.get((split, mixtures[0], SINGLE_TASK)):
            yield Scored(
                name=f"{OVERALL}: {', '.join(tasks)}",
                metric="mean of 0..1",
                cells={SINGLE_TASK: single, **{run: figures.overall.get((split, run, run)) for run in mixtures}},
                comparisons={run: comparisons.get((OVERALL, run)) for run in mixtures},
            )
