"""What each model cost beside what it gained: time and energy of its training, and energy per point.

A page of its own, because it is the one part of the report that differs from run to run of the same inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

import numpy as np

from yourbert.core.cost import JOULES_A_KWH, Cost
from yourbert.evaluation.metrics import score_decided
from yourbert.report.load import Gathered
from yourbert.report.results import Figures
from yourbert.report.tables import NOTHING, Row, plain, table
from yourbert.report.transfer import transfer_table

HEADER = ("model", "tasks", "seconds", "processor seconds", "energy (Wh)", "points gained", "Wh a point")


def cost_page(gathered: Gathered, figures: Figures) -> Iterator[str]:
    """The page's blocks from top to bottom."""
    yield "# What each model cost, and what that bought"
    yield table(HEADER, list(_rows(gathered, figures)), left=2)
    yield "\n".join(f"- {line}" for line in _legend(gathered))
    yield from _transfer(gathered, figures)


def _transfer(gathered: Gathered, figures: Figures) -> Iterator[str]:
    if lines := transfer_table(gathered, figures):
        yield "## What a task gains when others join its model"
        yield lines
        yield (
            "Gain: the dev score above that of the task's own model, with the interval over rows; verdicts as in "
            "report.md, corrected over all of its comparisons. Mended, spoilt: dev rows a seed that joining turns "
            "right or wrong; changes.csv names those that most seeds agree on. Seconds, Wh: of the whole joint "
            "training, against the task's own."
        )


def _rows(gathered: Gathered, figures: Figures) -> Iterator[Row]:
    costs = gathered.costs
    for run, tasks in gathered.runs.items():
        yield _row(plain(run), tasks, costs[run], _points(gathered, figures, [(task, run) for task in tasks]))
    for tasks, mixtures in gathered.alike.items():
        together = [sum(seed, start=Cost()) for seed in zip(*(costs[task] for task in tasks), strict=True)]
        points = _points(gathered, figures, [(task, task) for task in tasks])
        yield _row(f"own models, to set beside {plain(', '.join(mixtures))}", tasks, together, points)
    if gathered.pretrain.get("enabled"):
        yield _row("domain pretraining, before all of these", list(gathered.tasks), [gathered.pretrain_cost], None)


def _row(name: str, tasks: Sequence[str], costs: Sequence[Cost], points: float | None) -> Row:
    seconds, cpu = fmean(one.seconds for one in costs), fmean(one.cpu_seconds for one in costs)
    energy = 1000 * fmean(one.joules for one in costs) / JOULES_A_KWH
    gained = [NOTHING, NOTHING] if points is None else [f"{points:.1f}", NOTHING]
    if points is not None and points > 0:
        gained[1] = f"{energy / points:.4f}"
    return [name, plain(", ".join(tasks)), f"{seconds:,.0f}", f"{cpu:,.0f}", f"{energy:.3f}", *gained]


def _points(gathered: Gathered, figures: Figures, places: Sequence[tuple[str, str]]) -> float | None:
    """Points on dev, over (task, run), above the constant answer; None where a score is undefined."""
    found = [(figures.cells.get((task, "dev", run)), constant_score(gathered, task)) for task, run in places]
    return sum(100 * (cell.mean - floor) for cell, floor in found if cell) if all(cell for cell, _ in found) else None


def constant_score(gathered: Gathered, task: str) -> float:
    """What the commonest label scores when it is given to every dev row; a correlation with a constant counts as 0."""
    labels_R = gathered.answers[task, "dev", task].labels_R
    values, counts = np.unique(labels_R, return_counts=True)
    constant_R = np.full_like(labels_R, values[counts.argmax()])
    facts = gathered.tasks[task]
    return score_decided(facts, constant_R, labels_R).get(facts.metric, 0.0)


def _legend(gathered: Gathered) -> Iterator[str]:
    yield "Means over seeds, of training with its evaluations; a chain counts with what it goes on from."
    yield "They differ a little each time a model is trained."
    every = [cost for costs in gathered.costs.values() for cost in costs]
    if not all(cost.measured for cost in every):
        yield (
            "Energy is **estimated** where this machine showed no counters: 10 W for each busy core, 400 W for a GPU. "
            "The metrics files in metrics/cost/ say `kwh_estimated` there, and `kwh_measured` elsewhere."
        )
    if any(cost.measured for cost in every):
        yield "Measured energy is that of the processor packages with all that ran on them, and of the GPU."
    yield "Points: the dev score times 100, above that of the one answer that is right most often."
