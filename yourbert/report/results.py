"""The figures of the report: means over seeds, their intervals, and the tests of every multi-task model.

Shapes: S seeds, R rows, B bootstrap samples. Data flow: load -> results -> tables, summary.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np

from yourbert.config.schema import Params
from yourbert.core.seeding import rng_for
from yourbert.core.tasks import Split, Task, normalised, share
from yourbert.evaluation.metrics import RESAMPLING, Floats, bootstrap_rng, interval, rounded
from yourbert.evaluation.significance import (
    Comparison,
    Differences,
    compare,
    mean_of,
    paired,
    resampled_means,
)
from yourbert.report.load import LABELLED, Gathered, Place, RunPredictions

SINGLE_TASK = "single_task"
OVERALL = "overall"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A score: one value per seed, and the bootstrap interval of their mean over rows."""

    seeds: tuple[float, ...]
    low: float
    high: float

    @property
    def mean(self) -> float:
        return fmean(self.seeds)

    @property
    def sd(self) -> float | None:
        return stdev(self.seeds) if len(self.seeds) > 1 else None

    def to_json(self) -> dict[str, Any]:
        sd = {} if self.sd is None else {"sd": self.sd}
        return {"mean": self.mean, **sd, "low": self.low, "high": self.high, "seeds": len(self.seeds)}


@dataclass(frozen=True, kw_only=True)
class Figures:
    """cells: scores by (task, split, run), absent where undefined. comparisons: by (task or "overall", mixture).

    overall: by (split, mixture, run), where run is "single_task" for the single-task models of that mixture's tasks.
    tests: the number of tests behind the comparisons.
    """

    cells: Mapping[Place, Cell]
    overall: Mapping[tuple[Split, str, str], Cell]
    comparisons: Mapping[tuple[str, str], Comparison]
    tests: int


def compute(gathered: Gathered, params: Params) -> Figures:
    """All figures; every random draw comes from a generator seeded by the figure's name."""
    drawn = {place: _draws_of(gathered, place, params) for place, one in gathered.predictions.items() if _defined(one)}
    confidence = params.evaluate.confidence_level
    cells = {place: _cell(gathered.predictions[place].scores, draws, confidence) for place, draws in drawn.items()}
    overall = {
        (split, mixture, run): cell
        for mixture, tasks in gathered.mixtures.items()
        for split in LABELLED
        for run in (SINGLE_TASK, mixture)
        if len(tasks) > 1 and (cell := _overall(gathered, drawn, tasks, split, run, confidence)) is not None
    }
    comparisons, tests = _comparisons(gathered, cells, params)
    return Figures(cells=cells, overall=overall, comparisons=comparisons, tests=tests)


def _defined(one: RunPredictions) -> bool:
    return len(one.scores) == len(one.predicted_SR)


def _draws_of(gathered: Gathered, place: Place, params: Params) -> Floats:
    task, one = gathered.tasks[place[0]], gathered.predictions[place]
    return resampled_means(
        task.metric,
        one.predicted_SR,
        one.labels_R,
        classes=len(task.labels),
        resamples=params.evaluate.bootstrap_samples,
        generator=bootstrap_rng(task, place[1]),
    )


def _cell(scores: Sequence[float], draws: Floats, confidence: float) -> Cell:
    low, high = interval(draws, confidence) or (fmean(scores), fmean(scores))
    return Cell(seeds=tuple(scores), low=low, high=high)


def _overall(
    gathered: Gathered, drawn: Mapping[Place, Floats], tasks: Sequence[str], split: Split, run: str, confidence: float
) -> Cell | None:
    """The mean of the tasks' normalised scores, seed by seed; None where one of them is missing."""
    places: list[Place] = [(task, split, task if run == SINGLE_TASK else run) for task in tasks]
    if any(place not in drawn for place in places):
        return None
    metrics = [gathered.tasks[task].metric for task in tasks]
    scores = zip(*(gathered.predictions[place].scores for place in places), strict=True)
    seeds = [fmean(normalised(m, s) for m, s in zip(metrics, one, strict=True)) for one in scores]
    scaled = [share(m) * drawn[p] + normalised(m, 0.0) for m, p in zip(metrics, places, strict=True)]
    return _cell(seeds, np.mean(scaled, axis=0), confidence)


def _comparisons(
    gathered: Gathered, cells: Mapping[Place, Cell], params: Params
) -> tuple[dict[tuple[str, str], Comparison], int]:
    """Every multi-task model against the single-task models on dev, per task and overall, and the number of tests.

    Holm's correction is over these tests. A sequential model that freezes a task predicts what its `init_from`
    predicts; the same predictions are tested once.
    """
    family: dict[tuple[str, str], Differences] = {}
    same: dict[tuple[str, str], tuple[str, str]] = {}
    for mixture, tasks in gathered.mixtures.items():
        parts = {}
        for task in tasks:
            first = same[task, mixture] = (task, _first_with_these_predictions(gathered, task, mixture))
            parts[task] = part = family.get(first) or _paired(gathered, cells, task, mixture, params)
            if part is not None:
                family[first] = part
        known = [(share(gathered.tasks[t].metric), part) for t, part in parts.items() if part is not None]
        if len(tasks) > 1 and len(known) == len(tasks):
            family[OVERALL, mixture] = mean_of(known)
    tested = compare(family, params.report.alpha, params.report.equivalence_margin)
    return tested | {key: tested[first] for key, first in same.items() if first in tested}, len(tested)


def _first_with_these_predictions(gathered: Gathered, task: str, mixture: str) -> str:
    predictions = {m: gathered.predictions[task, "dev", m].predicted_SR for m in gathered.mixtures_of(task)}
    return next(m for m, predicted_SR in predictions.items() if np.array_equal(predicted_SR, predictions[mixture]))


def _paired(
    gathered: Gathered, cells: Mapping[Place, Cell], name: str, mixture: str, params: Params
) -> Differences | None:
    task: Task = gathered.tasks[name]
    if (name, "dev", name) not in cells or (name, "dev", mixture) not in cells:
        return None
    multi, single = gathered.predictions[name, "dev", mixture], gathered.predictions[name, "dev", name]
    return paired(
        task.metric,
        multi.predicted_SR,
        single.predicted_SR,
        single.labels_R,
        classes=len(task.labels),
        permutations=params.report.permutations,
        generator=rng_for(RESAMPLING, "paired test", name, mixture),
    )


def as_json(gathered: Gathered, figures: Figures) -> dict[str, Any]:
    """The figures as mappings with numbers at the leaves, which is what `dvc metrics` can show."""
    tree: dict[str, Any] = {task: {} for task in gathered.tasks}
    for (task, split, run), cell in figures.cells.items():
        leaf = tree[task].setdefault(SINGLE_TASK if run == task else run, {})
        leaf.update(cell.to_json() if split == "dev" else {"test": cell.to_json()})
    tree["comparisons"], tree[OVERALL] = {}, {}
    for (row, mixture), comparison in figures.comparisons.items():
        tree["comparisons"].setdefault(row, {})[mixture] = comparison.to_json()
    for (split, mixture, run), cell in figures.overall.items():
        leaf = tree[OVERALL].setdefault(mixture, {}).setdefault(run, {})
        leaf.update(cell.to_json() if split == "dev" else {"test": cell.to_json()})
    written: dict[str, Any] = rounded(tree)
    return written
