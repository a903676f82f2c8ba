"""Prediction files: a model's prediction for each row, read by the report, the paired test and the course's grader.

A prediction file is a CSV with the columns id, label, prediction and, for a classification, one probability per class
(`p_<label>`, six significant digits). Labels and predictions of a classification are label texts; an unknown label is
empty. Cells are not escaped for spreadsheets.

Place in the flow: evaluate writes them; report and error analysis read them.
Source of the submission format: multitask evaluation of the CS224N default project (`evaluation.py`).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from yourbert.core.errors import fail, quoted
from yourbert.core.storage import write_csv, write_text
from yourbert.core.tasks import REPRO, Split, Task
from yourbert.evaluation.metrics import (
    Array,
    bootstrap_intervals,
    bootstrap_rng,
    overall,
    rounded,
    score_predictions,
    to_predictions,
    undefined,
)

FIRST_COLUMNS = ("id", "label", "prediction")
CONFUSION_COLUMNS = ("task", "actual", "predicted")


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """The predictions for one split of one task.

    ids: one per row. predicted_R: class index (int64) or similarity (float64). labels_R: the same kind of
    array, or None if the split has no labels. probabilities_RC: float64, None for a similarity.
    """

    ids: tuple[str, ...]
    predicted_R: Array
    labels_R: Array | None
    probabilities_RC: Array | None


def write_predictions(path: Path, task: Task, ids: Sequence[str], outputs: Array, labels: Array | None) -> None:
    """Writes a prediction file.

    outputs: probabilities_RC, or similarities [R]. labels: class index or float [R]; None where unknown.
    """
    write_csv(path, header(task), prediction_rows(task, ids, outputs, labels))


def header(task: Task) -> list[str]:
    return [*FIRST_COLUMNS, *(f"p_{label}" for label in task.labels)]


def prediction_rows(task: Task, ids: Sequence[str], outputs: Array, labels: Array | None) -> Iterator[list[str]]:
    """The rows of a prediction file after its header."""
    assert len(ids) == len(outputs), "one id per row"
    assert labels is None or len(labels) == len(ids), "one label per row"
    predicted_R = to_predictions(task, outputs)
    for row, name in enumerate(ids):
        label = "" if labels is None else _text(task, labels[row])
        probabilities = [_six_digits(p) for p in outputs[row]] if task.kind == "classification" else []
        yield [name, label, _text(task, predicted_R[row]), *probabilities]


def _text(task: Task, value: Any) -> str:
    return task.labels[int(value)] if task.kind == "classification" else _exact(value)


def _exact(value: Any) -> str:
    """The shortest text that reads back as the same fp32 number, without minus zero.

    Rounding near-constant predictions to fewer digits would change their correlation.
    """
    return np.format_float_positional(np.float32(value) + np.float32(0), trim="-")


def _six_digits(value: Any) -> str:
    """Six significant digits, without minus zero."""
    return f"{float(value) + 0.0:.6g}"


def read_predictions(path: Path, task: Task) -> Predictions:
    """Reads a file of `write_predictions`.

    Raises UserError (C01) for a missing or damaged file, or one of another task.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file, strict=True))
    except FileNotFoundError:
        fail("C01", "the file is missing", where=str(path), fix="run `dvc repro` to make it")
    except (csv.Error, UnicodeDecodeError) as error:
        fail("C01", f"not a readable prediction file ({error})", where=str(path), fix=REPRO)
    if not rows or rows[0] != header(task):
        actual = quoted(",".join(rows[0])) if rows else "nothing"
        _refuse(path, 1, f"expected the columns {','.join(header(task))}, found {actual}")
    for line, row in enumerate(rows[1:], start=2):
        if len(row) != len(rows[0]):
            _refuse(path, line, f"{len(row)} fields, the header has {len(rows[0])}")
    return _parsed(path, task, rows[1:])


def _parsed(path: Path, task: Task, rows: list[list[str]]) -> Predictions:
    known = [bool(row[1]) for row in rows]
    if any(known) and not all(known):
        _refuse(path, known.index(False) + 2, "no label, but other rows have one")
    labels_R = _column(path, task, rows, 1) if any(known) else None
    return Predictions(
        ids=tuple(row[0] for row in rows),
        predicted_R=_column(path, task, rows, 2),
        labels_R=labels_R,
        probabilities_RC=_probabilities(path, task, rows) if task.kind == "classification" else None,
    )


def _column(path: Path, task: Task, rows: list[list[str]], column: int) -> Array:
    """Label texts as class indices, or numbers."""
    if task.kind == "similarity":
        numbers = [_float(path, line, row[column]) for line, row in enumerate(rows, 2)]
        return np.array(numbers, dtype=np.float64)
    index = {label: i for i, label in enumerate(task.labels)}
    for line, row in enumerate(rows, 2):
        if row[column] not in index:
            _refuse(path, line, f"{quoted(row[column])} is not a label of task '{task.name}'")
    return np.array([index[row[column]] for row in rows], dtype=np.int64)


def _probabilities(path: Path, task: Task, rows: list[list[str]]) -> Array:
    values = [[_float(path, line, p) for p in row[len(FIRST_COLUMNS) :]] for line, row in enumerate(rows, 2)]
    return np.array(values, dtype=np.float64).reshape(len(rows), len(task.labels))


def _float(path: Path, line: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    return value if math.isfinite(value) else _refuse(path, line, f"{quoted(text)} is not a number")


def _refuse(path: Path, line: int, what: str) -> NoReturn:
    fail("C01", what, where=f"{path}:{line}", fix=REPRO)


def write_submission(path: Path, task: Task, heading: str, ids: Sequence[str], outputs: Array) -> None:
    """Writes a submission file of the course: `id \\t <heading> \\n`, and per row `<id> , <prediction> \\n`.

    heading: the grader's name of the task, from `evaluate.submission`, e.g. "Predicted_Sentiment".
    """
    values = zip(ids, to_predictions(task, outputs), strict=True)
    lines = [f"{name} , {_course_value(task, value)} \n" for name, value in values]
    write_text(path, f"id \t {heading} \n" + "".join(lines))


def _course_value(task: Task, value: Any) -> str:
    """A similarity as a number; a class as its label if that is a number, as in the course, else as its index."""
    if task.kind == "similarity":
        return _exact(value)
    label = task.labels[int(value)]
    try:
        float(label)
    except ValueError:
        return str(int(value))
    return label


def evaluate_split(
    task: Task,
    split: Split,
    outputs: Array,
    labels: Array,
    *,
    resamples: int,
    confidence: float,
) -> dict[str, Any]:
    """The block of one split in a metrics file: every metric with its interval, `rows`, and `status` if undefined.

    outputs: probabilities_RC or similarities [R]. labels: class index or float [R]. Numbers are rounded to five digits.
    """
    predicted_R = to_predictions(task, outputs)
    rng = bootstrap_rng(task, split)
    ends = bootstrap_intervals(task, outputs, labels, resamples=resamples, confidence=confidence, generator=rng)
    reason = undefined(task, predicted_R, labels)
    status = {"status": reason} if reason else {}
    scores = score_predictions(task, predicted_R, labels)
    block: dict[str, Any] = rounded({**scores, **ends, "rows": len(labels), **status})
    return block


def overall_scores(tasks: Sequence[Task], metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The `overall` block of a metrics file: split -> mean score, for splits on which every task has its metric.

    metrics: {task: {split: the block of `evaluate_split`}}.
    """
    splits = {s: {t.name: metrics[t.name][s] for t in tasks if s in metrics[t.name]} for s in ("dev", "test")}
    means = {split: overall(tasks, scores) for split, scores in splits.items()}
    return {split: rounded(value) for split, value in means.items() if value is not None}


def confusion_rows(task: Task, outputs: Array, labels: Array) -> Iterator[tuple[str, str, str]]:
    """(task, actual, predicted) of each row, for DVC's confusion plot; nothing for a similarity."""
    if task.kind == "classification":
        for actual, predicted in zip(labels, to_predictions(task, outputs), strict=True):
            yield task.name, task.labels[int(actual)], task.labels[int(predicted)]


def write_confusion(path: Path, rows: Iterator[tuple[str, str, str]]) -> None:
    write_csv(path, CONFUSION_COLUMNS, rows)
