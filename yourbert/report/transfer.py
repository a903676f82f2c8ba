"""What a task gains or loses when others join its model, at what cost, and which answers change.

Shapes: S seeds, R rows. Place in the flow: figures -> transfer -> the page of costs, and the file of changed answers.
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
from yourbert.report.tables import NOTHING, Row, inert, number, p_value, plain, table

HEADER = ("task", "in", "joined by", "gain on dev", "verdict", "mended", "spoilt", "seconds", "Wh")
CHANGES = ("task", "mixture", "id", "label", "own", "joined", "change")
# Of a similarity no answer is right or wrong; the rows whose error moved most are shown instead.
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
    own, joined = gathered.answers[task, "dev", task], gathered.answers[task, "dev", mixture]
    match, facts = figures.matches.get((task, mixture)), gathered.tasks[task]
    if match is None:
        gain = [NOTHING, NOTHING]
    else:
        low, high = (number(end, sign=True) for end in (match.comparison.low, match.comparison.high))
        difference = number(match.comparison.difference, sign=True)
        gain = [f"{difference} ({low} to {high})", f"{match.verdict} ({p_value(match.p)})"]
    changed = [NOTHING, NOTHING]
    if facts.labels:
        right_SR, wrong_SR = (own.predicted_SR == own.labels_R, joined.predicted_SR == joined.labels_R)
        changed = [f"{both.sum() / len(both):,.1f}" for both in (~right_SR & wrong_SR, right_SR & ~wrong_SR)]
    ratios = [
        fmean(getattr(one, key) for one in gathered.costs[mixture])
        / (fmean(getattr(one, key) for one in gathered.costs[task]) or 1.0)
        for key in ("seconds", "joules")
    ]
    return [*gain, *changed, *(f"{ratio:.1f}x" for ratio in ratios)]


Turned = tuple[int, str, str, str]  # row, answer before, answer after, what that is


class Change(NamedTuple):
    """A dev row that most seeds answer otherwise once others join."""

    task: str
    mixture: str
    row: int
    label: str
    own: str
    joined: str
    change: str


def changed_rows(gathered: Gathered) -> Iterator[Change]:
    for task, facts in gathered.tasks.items():
        for mixture in gathered.mixtures_of(task):
            own, joined = gathered.answers[task, "dev", task], gathered.answers[task, "dev", mixture]
            find = flipped if facts.labels else _moved
            for row, before, after, change in find(facts, own.labels_R, own.predicted_SR, joined.predicted_SR):
                label = facts.labels[int(own.labels_R[row])] if facts.labels else f"{own.labels_R[row]:.3f}"
                yield Change(task, mixture, row, label, before, after, change)


def changes(gathered: Gathered) -> Iterator[tuple[object, ...]]:
    """The lines of changes.csv, harmless in a spreadsheet."""
    for one in changed_rows(gathered):
        row_id = gathered.answers[one.task, "dev", one.task].ids[one.row]
        yield one.task, one.mixture, *map(inert, (row_id, one.label, one.own, one.joined)), one.change


def flipped(facts: Task, labels_R: Array, before_SR: Array, after_SR: Array) -> Iterator[Turned]:
    """Where the answer of most seeds to a row of a classification turned from wrong to right or back."""
    before_R, after_R = (_most_said(predicted_SR, len(facts.labels)) for predicted_SR in (before_SR, after_SR))
    right_R, still_R = before_R == labels_R, after_R == labels_R
    for row in np.flatnonzero(right_R != still_R):
        change = "mended" if still_R[row] else "spoilt"
        yield int(row), facts.labels[before_R[row]], facts.labels[after_R[row]], change


def _moved(facts: Task, labels_R: Array, before_SR: Array, after_SR: Array) -> Iterator[Turned]:
    """The rows whose error moved most, the mean over seeds."""
    before_R, after_R = before_SR.mean(axis=0), after_SR.mean(axis=0)
    less_R = np.abs(before_R - labels_R) - np.abs(after_R - labels_R)
    for row in np.argsort(-np.abs(less_R), kind="stable")[:MOST_MOVED]:
        yield int(row), f"{before_R[row]:.3f}", f"{after_R[row]:.3f}", "nearer" if less_R[row] > 0 else "farther"


def _most_said(predicted_SR: Array, classes: int) -> Array:
    """The class that most seeds name, the lower one of equals."""
    votes_RC = (predicted_SR[:, :, None] == np.arange(classes)).sum(axis=0)
    return np.asarray(votes_RC.argmax(axis=1))
