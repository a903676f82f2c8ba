"""The lines of the table of scores: each task's own model beside those that learnt it among others, then the means.

Place in the flow: figures -> scores -> the Markdown's table, the page's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from yourbert.core.tasks import Split
from yourbert.report.load import Gathered
from yourbert.report.results import OVERALL, OWN, Cell, Figures, Match


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What models reached at one task, or in the mean over several.

    cells: by model, the task's own (or the set of own ones) first under "own"; None where undefined. matches: by model,
    on dev, against the first.
    """

    name: str
    metric: str
    cells: Mapping[str, Cell | None]
    matches: Mapping[str, Match | None]

    @property
    def best(self) -> float | None:
        return max((cell.mean for cell in self.cells.values() if cell), default=None)


def scored(gathered: Gathered, figures: Figures, split: Split) -> Iterator[Scored]:
    """Every task that has labels there; then the means, for each set of tasks that some model learns."""
    matches = figures.matches if split == "dev" else {}
    for task, facts in gathered.tasks.items():
        runs = [run for run in (task, *gathered.mixtures_of(task)) if (task, split, run) in gathered.answers]
        if runs:
            yield Scored(
                name=task,
                metric=facts.metric,
                cells={OWN if run == task else run: figures.cells.get((task, split, run)) for run in runs},
                matches={run: matches.get((task, run)) for run in runs},
            )
    for tasks, mixtures in gathered.alike.items():
        if own := figures.overall.get((split, mixtures[0], OWN)):
            yield Scored(
                name=f"{OVERALL}: {', '.join(tasks)}",
                metric="mean of 0..1",
                cells={OWN: own, **{run: figures.overall.get((split, run, run)) for run in mixtures}},
                matches={run: matches.get((OVERALL, run)) for run in mixtures},
            )
