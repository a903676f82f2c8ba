"""Cost and benefit of each model: time and energy of its training, points gained, and energy per point.

This is a separate page because it is the one part of the report that differs between runs of the same inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

import numpy as np

from yourbert.core.cost import JOULES_PER_KWH, Cost
from yourbert.evaluation.metrics import score_predictions
from yourbert.report.load import Gathered
from yourbert.report.results import Figures
from yourbert.report.tables import NOTHING, Row, plain, table
from yourbert.report.transfer import transfer_table

HEADER = ("model", "tasks", "seconds", "processor seconds", "energy (Wh)", "points gained", "Wh per point")


def cost_page(gathered: Gathered, figures: Figures) -> Iterator[str]:
    """The blocks of cost.md from top to bottom."""
    yield "# Cost and benefit"
    yield table(HEADER, list(_rows(gathered, figures)), left=2)
    yield "\n".join(f"- {line}" for line in _legend(gathered))
    yield from _transfer(gathered, figures)


def _transfer(gathered: Gathered, figures: Figures) -> Iterator[str]:
    if lines := transfer_table(gathered, figures):
        yield "## Multi-task transfer"
        yield lines
        yield (
            "Gain: the difference to the dev score of the single-task model, with its corrected interval and verdict "
            "as in report.md. Fixed, broken: dev rows per seed that co-training turns right or wrong; changes.csv "
            "lists those that most seeds agree on. Seconds, Wh: the multi-task training, as a multiple of the "
            "single-task training."
        )


def _rows(gathered: Gathered, figures: Figures) -> Iterator[Row]:
    costs = gathered.costs
    for run, tasks in gathered.runs.items():
        yield _row(plain(run), tasks, costs[run], _points(gathered, figures, [(task, run) for task in tasks]))
    for tasks, mixtures in gathered.alike.items():
        together = [sum(seed, start=Cost()) for seed in zip(*(costs[task] for task in tasks), strict=True)]
        points = _points(gathered, figures, [(task, task) for task in tasks])
        yield _row(f"single-task models, for {plain(', '.join(mixtures))}", tasks, together, points)
    if gathered.pretrain.get("enabled"):
        yield _row("domain pretraining, for all of these", list(gathered.tasks), [gathered.pretrain_cost], None)


def _row(name: str, tasks: Sequence[str], costs: Sequence[Cost], points: float | None) -> Row:
    seconds, cpu = fmean(one.seconds for one in costs), fmean(one.cpu_seconds for one in costs)
    energy = 1000 * fmean(one.joules for one in costs) / JOULES_PER_KWH
    gained = [NOTHING, NOTHING] if points is None else [f"{points:.1f}", NOTHING]
    if points is not None and points > 0:
        gained[1] = f"{energy / points:.4f}"
    return [name, plain(", ".join(tasks)), f"{seconds:,.0f}", f"{cpu:,.0f}", f"{energy:.3f}", *gained]


def _points(gathered: Gathered, figures: Figures, places: Sequence[tuple[str, str]]) -> float | None:
    """Points on dev, over (task, run), above the majority-class baseline; None where a score is undefined."""
    found = [(figures.cells.get((task, "dev", run)), baseline_score(gathered, task)) for task, run in places]
    return sum(100 * (cell.mean - floor) for cell, floor in found if cell) if all(cell for cell, _ in found) else None


def baseline_score(gathered: Gathered, task: str) -> float:
    """The score of the majority-class baseline on dev; a correlation with a constant counts as 0."""
    labels_R = gathered.predictions[task, "dev", task].labels_R
    values, counts = np.unique(labels_R, return_counts=True)
    constant_R = np.full_like(labels_R, values[counts.argmax()])
    facts = gathered.tasks[task]
    return score_predictions(facts, constant_R, labels_R).get(facts.metric, 0.0)


def _legend(gathered: Gathered) -> Iterator[str]:
    yield "Means over seeds, of training with its evaluations; a sequential model includes the model it starts from."
    yield "Time and energy differ slightly each time a model is trained."
    every = [cost for costs in gathered.costs.values() for cost in costs]
    if not all(cost.measured for cost in every):
        yield (
            "Energy is **estimated** where the machine has no readable counters: 10 W per busy core, 400 W per GPU. "
            "The files in metrics/cost/ say `kwh_estimated` there, and `kwh_measured` elsewhere."
        )
    if any(cost.measured for cost in every):
        yield "Measured energy is that of the whole processor packages, other processes included, and of the GPU."
    yield "Points: the dev score times 100, above the majority-class baseline."
