"""Gathered answers -> the figures of the report: means over seeds, intervals, and verdicts on every mixture.

Shapes: S seeds, R rows, B resamples. Place in the flow: gather -> figures -> tables, summary.json.
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
    Draws,
    Verdict,
    compare,
    holm,
    mean_of,
    paired,
    resampled_means,
    verdict,
)
from yourbert.report.load import LABELLED, Answers, Gathered, Place

OWN = "own"
OVERALL = "overall"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A score: one value per seed, and the interval of their mean over resampled rows."""

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
class Match:
    """A mixture against the own model (or the set of them): how far above, and what that means after Holm."""

    comparison: Comparison
    p: float
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        return {
            "difference": self.comparison.difference,
            "low": self.comparison.low,
            "high": self.comparison.high,
            "p": self.comparison.p,
            "p_holm": self.p,
            "verdict": self.verdict,
        }


@dataclass(frozen=True, kw_only=True)
class Figures:
    """cells: scores by (task, split, run), absent where undefined. matches: by (task or "overall", mixture).

    overall: by (split, mixture, run), where run is "own" for the set of own models of that mixture's tasks.
    comparisons: how many tests are behind the matches.
    """

    cells: Mapping[Place, Cell]
    overall: Mapping[tuple[Split, str, str], Cell]
    matches: Mapping[tuple[str, str], Match]
    comparisons: int


def compute(gathered: Gathered, params: Params) -> Figures:
    """All figures, each draw from a generator that its name decides."""
    drawn = {place: _draws_of(gathered, place, params) for place, one in gathered.answers.items() if _defined(one)}
    confidence = params.evaluate.confidence_level
    cells = {place: _cell(gathered.answers[place].scores, draws, confidence) for place, draws in drawn.items()}
    overall = {
        (split, mixture, run): cell
        for mixture, tasks in gathered.mixtures.items()
        for split in LABELLED
        for run in (OWN, mixture)
        if len(tasks) > 1 and (cell := _overall(gathered, drawn, tasks, split, run, confidence)) is not None
    }
    matches, comparisons = _matches(gathered, cells, params)
    return Figures(cells=cells, overall=overall, matches=matches, comparisons=comparisons)


def _defined(one: Answers) -> bool:
    return len(one.scores) == len(one.predicted_SR)


def _draws_of(gathered: Gathered, place: Place, params: Params) -> Floats:
    task, one = gathered.tasks[place[0]], gathered.answers[place]
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
    """The mean of the tasks' normalised scores, seed by seed; None when one of them is missing."""
    places: list[Place] = [(task, split, task if run == OWN else run) for task in tasks]
    if any(place not in drawn for place in places):
        return None
    metrics = [gathered.tasks[task].metric for task in tasks]
    scores = zip(*(gathered.answers[place].scores for place in places), strict=True)
    seeds = [fmean(normalised(m, s) for m, s in zip(metrics, one, strict=True)) for one in scores]
    scaled = [share(m) * drawn[p] + normalised(m, 0.0) for m, p in zip(metrics, places, strict=True)]
    return _cell(seeds, np.mean(scaled, axis=0), confidence)


def _matches(
    gathered: Gathered, cells: Mapping[Place, Cell], params: Params
) -> tuple[dict[tuple[str, str], Match], int]:
    """Every mixture against the own models on dev, per task and overall, and how many tests that took.

    Holm's correction is over these. A chain that leaves a task alone answers it as what it goes on from does: the same
    answers are tested once.
    """
    draws: dict[tuple[str, str], Draws] = {}
    same: dict[tuple[str, str], tuple[str, str]] = {}
    for mixture, tasks in gathered.mixtures.items():
        parts = {}
        for task in tasks:
            first = same[task, mixture] = (task, _first_that_answers_so(gathered, task, mixture))
            parts[task] = part = draws.get(first) or _pair(gathered, cells, task, mixture, params)
            if part is not None:
                draws[first] = part
        known = [(share(gathered.tasks[t].metric), part) for t, part in parts.items() if part is not None]
        if len(tasks) > 1 and len(known) == len(tasks):
            draws[OVERALL, mixture] = mean_of(known)
    found = {key: compare(one, params.evaluate.confidence_level) for key, one in draws.items()}
    adjusted = dict(zip(found, holm([one.p for one in found.values()]), strict=True))
    alpha = params.report.alpha
    matches = {
        key: Match(comparison=one, p=adjusted[key], verdict=verdict(one.difference, adjusted[key], alpha))
        for key, one in found.items()
    }
    return matches | {key: matches[first] for key, first in same.items() if first in matches}, len(found)


def _first_that_answers_so(gathered: Gathered, task: str, mixture: str) -> str:
    answers = {m: gathered.answers[task, "dev", m].predicted_SR for m in gathered.mixtures_of(task)}
    return next(m for m, predicted_SR in answers.items() if np.array_equal(predicted_SR, answers[mixture]))


def _pair(gathered: Gathered, cells: Mapping[Place, Cell], name: str, mixture: str, params: Params) -> Draws | None:
    task: Task = gathered.tasks[name]
    if (name, "dev", name) not in cells or (name, "dev", mixture) not in cells:
        return None
    theirs, own = gathered.answers[name, "dev", mixture], gathered.answers[name, "dev", name]
    return paired(
        task.metric,
        theirs.predicted_SR,
        own.predicted_SR,
        own.labels_R,
        classes=len(task.labels),
        permutations=params.report.permutations,
        resamples=params.evaluate.bootstrap_samples,
        generator=rng_for(RESAMPLING, "paired test", name, mixture),
    )


def as_json(gathered: Gathered, figures: Figures) -> dict[str, Any]:
    """The figures as mappings with numbers at the leaves, which is what `dvc metrics` can show."""
    tree: dict[str, Any] = {task: {} for task in gathered.tasks}
    for (task, split, run), cell in figures.cells.items():
        leaf = tree[task].setdefault(OWN if run == task else run, {})
        leaf.update(cell.to_json() if split == "dev" else {"test": cell.to_json()})
    tree["comparisons"], tree[OVERALL] = {}, {}
    for (row, mixture), match in figures.matches.items():
        tree["comparisons"].setdefault(row, {})[mixture] = match.to_json()
    for (split, mixture, run), cell in figures.overall.items():
        leaf = tree[OVERALL].setdefault(mixture, {}).setdefault(run, {})
        leaf.update(cell.to_json() if split == "dev" else {"test": cell.to_json()})
    written: dict[str, Any] = rounded(tree)
    return written
