"""Compares two revisions of the project: every model that both have, by the report's paired tests.

A revision is a commit, a branch, an experiment's name, or the workspace. Its predictions are DVC outputs and come from
the cache or a remote; nothing is trained. Rows whose prediction differs in most seeds are counted, and listed on
request. Shapes: S seeds, R rows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tabulate import tabulate

from yourbert.config.params import PARAMS_FILE, read_params
from yourbert.config.schema import Params
from yourbert.core.errors import fail
from yourbert.core.seeding import rng_for
from yourbert.core.storage import read_json, write_csv
from yourbert.core.tasks import Task
from yourbert.evaluation.metrics import RESAMPLING, Array, score_predictions
from yourbert.evaluation.predictions import Predictions, read_predictions
from yourbert.evaluation.significance import Comparison, Differences, Verdict, compare, paired
from yourbert.experiments.git import WORKSPACE, commit_of, git
from yourbert.report.load import runs_of
from yourbert.report.tables import difference, inert, number, plain, verdict
from yourbert.report.transfer import flipped

PREDICTIONS = "build/predictions"
HEAD = ("model", "task", "metric", "before", "after", "difference (interval)", "verdict", "fixed", "broken")
ROWS = ("model", "task", "id", "label", "before", "after", "change")


@dataclass(frozen=True)
class Side:
    """One revision: its parameters, and the folder of its predictions."""

    revision: str
    params: Params
    predictions: Path

    def seeds(self, run: str) -> list[int]:
        return [seed for seed in self.params.seeds if (self.predictions / run / str(seed) / "tasks.json").is_file()]

    def task(self, run: str, name: str) -> Task:
        path = self.predictions / run / str(self.seeds(run)[0]) / "tasks.json"
        return Task.from_json(read_json(path)[name], str(path))

    def predictions_of(self, run: str, name: str, task: Task, seeds: Sequence[int]) -> list[Predictions]:
        return [read_predictions(self.predictions / run / str(seed) / f"{name}-dev.csv", task) for seed in seeds]


@dataclass(frozen=True)
class Row:
    """A dev row whose prediction changed from wrong to right, or from right to wrong."""

    id: str
    label: str
    before: str
    after: str
    change: str


@dataclass(frozen=True)
class Difference:
    """One task of one model in both revisions. before, after: mean scores over the seeds that both have."""

    run: str
    task: Task
    before: float
    after: float
    differences: Differences
    rows: list[Row]


@contextmanager
def side(revision: str) -> Iterator[Side]:
    """Opens a revision. Raises UserError: P05 (unknown revision), V13 (its predictions are not in the cache)."""
    if revision == WORKSPACE:
        yield Side(revision, read_params(), Path(PREDICTIONS))
        return
    commit = commit_of(revision)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / PARAMS_FILE).write_bytes(git("show", f"{commit}:{PARAMS_FILE}"))
        params = read_params(place / PARAMS_FILE)
        _fetch(commit, revision, place / "predictions")
        yield Side(revision, params, place / "predictions")


def _fetch(commit: str, revision: str, out: Path) -> None:
    from dvc.api import DVCFileSystem

    try:
        DVCFileSystem(rev=commit).get(PREDICTIONS, str(out), recursive=True)
    except Exception as error:  # DVC's own errors have no common name for this
        what = f"the predictions of {revision} are not in DVC's cache ({type(error).__name__})"
        fix = f"`dvc fetch` them from a remote, or `git checkout {revision}`, `dvc repro` and try again"
        fail("V13", what, where=PREDICTIONS, fix=fix)


def differences(before: Side, after: Side) -> list[Difference]:
    """The difference for each task of each model of both revisions.

    Raises UserError (C01) if there is none, or if the rows differ.
    """
    known = runs_of(before.params)
    found = []
    for run, tasks in runs_of(after.params).items():
        seeds = [seed for seed in before.seeds(run) if seed in after.seeds(run)]
        for name in tasks:
            if seeds and name in known.get(run, ()):
                found.append(_difference(run, name, seeds, before, after))
    if not found:
        what = f"{before.revision} and {after.revision} have no model with the same name and seed"
        fail("C01", what, where=PREDICTIONS, fix="run `dvc repro` for both")
    return found


def _difference(run: str, name: str, seeds: Sequence[int], before: Side, after: Side) -> Difference:
    task = after.task(run, name)
    sides = [one.predictions_of(run, name, task, seeds) for one in (before, after)]
    first = sides[0][0]
    labels_R = first.labels_R
    if labels_R is None or not all(_has_rows(one, first.ids, labels_R) for part in sides for one in part):
        what = f"the dev rows of '{name}' are not the same in both"
        fail("C01", what, where=PREDICTIONS, fix="compare revisions with the same data")
    before_SR, after_SR = (np.stack([one.predicted_R for one in part]) for part in sides)
    draws = paired(
        task.metric, after_SR, before_SR, labels_R, classes=len(task.labels),
        permutations=after.params.report.permutations, generator=rng_for(RESAMPLING, "compare", run, name),
    )  # fmt: skip
    if draws is None:
        fail("C01", f"the {task.metric} of '{name}' is undefined", where=f"{PREDICTIONS}/{run}", fix="see metrics/runs")
    return Difference(
        run,
        task,
        before=_score(task, before_SR, labels_R),
        after=_score(task, after_SR, labels_R),
        differences=draws,
        rows=list(_flipped(task, first.ids, labels_R, before_SR, after_SR)),
    )


def _has_rows(one: Predictions, ids: Sequence[str], labels_R: Array) -> bool:
    """Whether these are predictions for exactly these rows."""
    return one.ids == ids and one.labels_R is not None and np.array_equal(one.labels_R, labels_R)


def _score(task: Task, predicted_SR: Array, labels_R: Array) -> float:
    return float(np.mean([score_predictions(task, one_R, labels_R)[task.metric] for one_R in predicted_SR]))


def _flipped(task: Task, ids: Sequence[str], labels_R: Array, before_SR: Array, after_SR: Array) -> Iterator[Row]:
    """Rows of a classification that most seeds get right in one revision only."""
    for row, before, after, change in flipped(task, labels_R, before_SR, after_SR) if task.labels else ():
        yield Row(ids[row], task.labels[int(labels_R[row])], before, after, change)


def tested(found: Sequence[Difference], params: Params) -> list[tuple[Difference, Comparison]]:
    """The differences with their tests, corrected over all of them; the largest difference first."""
    family = {number: one.differences for number, one in enumerate(found)}
    comparisons = compare(family, params.report.alpha, params.report.equivalence_margin)
    return sorted(zip(found, comparisons.values(), strict=True), key=lambda pair: -abs(pair[1].difference))


def table(comparisons: Sequence[tuple[Difference, Comparison]], markdown: bool) -> str:
    shown: Callable[[str], str] = plain if markdown else str
    lines = [
        [
            shown(one.run), shown(one.task.name), one.task.metric, number(one.before), number(one.after),
            difference(comparison), verdict(comparison), *(_count(one, change) for change in ("fixed", "broken")),
        ]
        for one, comparison in comparisons
    ]  # fmt: skip
    return tabulate(lines, HEAD, tablefmt="pipe" if markdown else "simple", disable_numparse=True)


def _count(one: Difference, change: str) -> str:
    return str(sum(row.change == change for row in one.rows)) if one.task.labels else "-"


def write_rows(path: Path, found: Sequence[Difference]) -> None:
    """The rows that changed, with spreadsheet formulas quoted."""
    lines = (
        [one.run, one.task.name, *map(inert, (row.id, row.label, row.before, row.after)), row.change]
        for one in found
        for row in one.rows
    )
    write_csv(path, ROWS, lines)


def compare_revisions(first: str, second: str, markdown: bool, rows: Path | None) -> tuple[str, Mapping[str, Verdict]]:
    """The table of two revisions, and the verdict on each task of each model, "run/task"."""
    with side(first) as before, side(second) as after:
        found = differences(before, after)
        comparisons = tested(found, after.params)
        if rows is not None:
            write_rows(rows, found)
        return table(comparisons, markdown), {f"{one.run}/{one.task.name}": c.verdict for one, c in comparisons}
