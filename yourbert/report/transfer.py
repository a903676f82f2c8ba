"""Multi-task transfer: what a task gains or loses by co-training, at what cost, and which predictions change.

Shapes: S seeds, R rows. Data flow: results -> transfer -> cost.md, changes.csv.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean
from typing import NamedTuple

import numpy as np

from yourbert.core.tasks import Task
from yourbert.evaluation.metrics import Array
from yourbert.report.load import Gathered
from yourbert.report.results import Figures
from yourbert.report.tables import NOTHING, Row, difference, inert, plain, table, verdict

HEADER = ("task", "model", "co-trained with", "gain on dev", "verdict", "fixed", "broken", "seconds", "Wh")
CHANGES = ("task", "model", "id", "label", "single_task", "multi_task", "change")
# A similarity is not right or wrong; the rows whose error changed most are shown instead.
MOST_MOVED = 20


def transfer_table(gathered: Gathered, figures: Figures) -> str:
    """A line for each task of each mixture; empty where there is no mixture of several tasks."""
    rows = list(_rows(gathered, figures))
    return table(HEADER, rows, left=3) if rows else ""


def _rows(gathered: Gathered, figures: Figures) -> Iterator[Row]:
    for task in gathered.tasks:
        for mixture in gathered.mixtures_of(task):
            partners = [plain(other) for other in gathered.runs[mixture] if other != task]
            if partners:
                yield [plain(task), plain(mixture), ", ".join(partners), *_gain(gathered, figures, task, mixture)]


def _gain(gathered: Gathered, figures: Figures, task: str, mixture: str) -> Row:
    single, multi = gathered.predictions[task, "dev", task], gathered.predictions[task, "dev", mixture]
    comparison = figures.comparisons.get((task, mixture))
    gain = [NOTHING if comparison is None else difference(comparison), verdict(comparison)]
    changed = [NOTHING, NOTHING]
    if gathered.tasks[task].labels:
        right_SR, wrong_SR = (single.predicted_SR == single.labels_R, multi.predicted_SR == multi.labels_R)
        changed = [f"{both.sum() / len(both):,.1f}" for both in (~right_SR & wrong_SR, right_SR & ~wrong_SR)]
    ratios = [
        fmean(getattr(one, key) for one in gathered.costs[mixture])
        / (fmean(getattr(one, key) for one in gathered.costs[task]) or 1.0)
        for key in ("seconds", "joules")
    ]
    return [*gain, *changed, *(f"{ratio:.1f}x" for ratio in ratios)]


Flip = tuple[int, str, str, str]  # row, prediction before, prediction after, kind of change


class Change(NamedTuple):
    """A dev row whose prediction, by most seeds, differs between the single-task and the multi-task model."""

    task: str
    mixture: str
    row: int
    label: str
    single: str
    multi: str
    change: str


def changed_rows(gathered: Gathered) -> Iterator[Change]:
    for task, facts in gathered.tasks.items():
        for mixture in gathered.mixtures_of(task):
            single, multi = gathered.predictions[task, "dev", task], gathered.predictions[task, "dev", mixture]
            find = flipped if facts.labels else _moved
            for row, before, after, change in find(facts, single.labels_R, single.predicted_SR, multi.predicted_SR):
                label = facts.labels[int(single.labels_R[row])] if facts.labels else f"{single.labels_R[row]:.3f}"
                yield Change(task, mixture, row, label, before, after, change)


def changes(gathered: Gathered) -> Iterator[tuple[object, ...]]:
    """The lines of changes.csv, with spreadsheet formulas quoted."""
    for one in changed_rows(gathered):
        row_id = gathered.predictions[one.task, "dev", one.task].ids[one.row]
        yield one.task, one.mixture, *map(inert, (row_id, one.label, one.single, one.multi)), one.change


def flipped(facts: Task, labels_R: Array, before_SR: Array, after_SR: Array) -> Iterator[Flip]:
    """The rows of a classification that most seeds turn from wrong to right (fixed) or from right to wrong (broken)."""
    before_R, after_R = (_majority(predicted_SR, len(facts.labels)) for predicted_SR in (before_SR, after_SR))
    right_R, still_R = before_R == labels_R, after_R == labels_R
    for row in np.flatnonzero(right_R != still_R):
        change = "fixed" if still_R[row] else "broken"
        yield int(row), facts.labels[before_R[row]], facts.labels[after_R[row]], change


def _moved(facts: Task, labels_R: Array, before_SR: Array, after_SR: Array) -> Iterator[Flip]:
    """The rows whose error changed most, as the mean over seeds."""
    before_R, after_R = before_SR.mean(axis=0), after_SR.mean(axis=0)
    less_R = np.abs(before_R - labels_R) - np.abs(after_R - labels_R)
    for row in np.argsort(-np.abs(less_R), kind="stable")[:MOST_MOVED]:
        yield int(row), f"{before_R[row]:.3f}", f"{after_R[row]:.3f}", "nearer" if less_R[row] > 0 else "farther"


def _majority(predicted_SR: Array, classes: int) -> Array:
    """The class that most seeds predict; the lower index of a tie."""
    votes_RC = (predicted_SR[:, :, None] == np.arange(classes)).sum(axis=0)
    return np.asarray(votes_RC.argmax(axis=1))
