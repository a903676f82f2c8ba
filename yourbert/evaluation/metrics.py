"""Metrics from predictions, with bootstrap confidence intervals.

`score_many` scores many (prediction, label) vectors at once: one for plain scoring, resampled rows for the bootstrap,
swapped rows for the paired test. All metrics equal those of scikit-learn and SciPy. An undefined metric (a correlation
with a constant) is omitted, never written as NaN.

Shapes: B vectors scored at once, R rows, C classes. Place in the flow: predict -> metrics -> report.
Source of the intervals: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from yourbert.core.errors import fail
from yourbert.core.seeding import rng_for
from yourbert.core.tasks import METRICS, Metric, Split, Task, normalised

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

ELEMENTS_AT_ONCE = 1_000_000
DIGITS = 5
RESAMPLING = 0  # seed of resamples and permutations, independent of the training seeds


def bootstrap_rng(task: Task, split: Split) -> np.random.Generator:
    """The generator of a split's resamples: the same resampled rows for every model, so that differences are paired."""
    return rng_for(RESAMPLING, "bootstrap", task.name, split)


def to_predictions(task: Task, outputs: Array) -> Array:
    """Model outputs -> predictions: probabilities_RC -> class index, int64 [R]; similarities [R] -> float64 [R].

    Raises UserError (T01) when an output is not a finite number.
    """
    if not np.isfinite(outputs).all():
        bad = int((~np.isfinite(outputs)).reshape(len(outputs), -1).any(axis=1).sum())
        what = f"task '{task.name}': the model's output is not finite for {bad} of {len(outputs)} rows"
        fail("T01", what, fix="train again with a lower lr")
    if task.kind == "similarity":
        return np.asarray(outputs, dtype=np.float64)
    assert outputs.ndim == 2 and outputs.shape[1] == len(task.labels), "one probability per row and class"
    return np.asarray(outputs.argmax(axis=1), dtype=np.int64)


def score(task: Task, predictions: Array, labels: Array) -> dict[str, float]:
    """Every metric of the task's kind, in full precision; undefined ones are omitted (`undefined` says why).

    predictions: probabilities_RC of a classification, or similarities [R]. labels: class index or float [R].
    Raises UserError (T01) when a prediction is not a finite number.
    """
    return score_predictions(task, to_predictions(task, predictions), labels)


def score_predictions(task: Task, predicted_R: Array, labels_R: Array) -> dict[str, float]:
    """`score` for predictions that are already class indices (or similarities)."""
    assert len(predicted_R) == len(labels_R), "one prediction per label"
    if len(labels_R) == 0:
        return {}
    vectors, classes = (predicted_R[None], labels_R[None]), len(task.labels)
    scores = {metric: float(score_many(metric, *vectors, classes)[0]) for metric in METRICS[task.kind]}
    return {metric: value for metric, value in scores.items() if not np.isnan(value)}


def undefined(task: Task, predicted_R: Array, labels_R: Array) -> str:
    """Why a metric of the task is undefined on these rows; "" if all are defined."""
    if len(labels_R) == 0:
        return "undefined: no rows"
    if task.kind == "similarity":
        for name, values in (("label", labels_R), ("prediction", predicted_R)):
            if np.ptp(values) == 0:
                return f"undefined: every {name} is {float(values[0]):.6g}"
    return ""


def score_many(metric: Metric, predicted_BR: Array, labels_BR: Array, classes: int) -> Floats:
    """B scores of B prediction vectors, each against its own labels; NaN where a correlation is undefined."""
    if metric == "pearson":
        return correlation(predicted_BR, labels_BR)
    if metric == "spearman":
        return correlation(mid_ranks(predicted_BR), mid_ranks(labels_BR))
    hit_BR = predicted_BR == labels_BR
    if metric == "accuracy":
        return np.asarray(hit_BR.mean(axis=1))
    hits_BC = _per_class(labels_BR, classes, hit_BR)
    return from_counts(metric, hits_BC, _per_class(predicted_BR, classes), _per_class(labels_BR, classes))


def from_counts(metric: Metric, hits_BC: Floats, predicted_BC: Floats, actual_BC: Floats) -> Floats:
    """Macro-F1 over the classes that occur, or Matthews' correlation, 0 where undefined; as in scikit-learn."""
    if metric == "macro_f1":
        both_BC = predicted_BC + actual_BC
        f1_BC = 2 * hits_BC / np.maximum(both_BC, 1)
        return np.asarray(f1_BC.sum(axis=1) / (both_BC > 0).sum(axis=1))
    assert metric == "mcc", metric
    rows_B = actual_BC.sum(axis=1)
    covariance_B = hits_BC.sum(axis=1) * rows_B - (predicted_BC * actual_BC).sum(axis=1)
    spread_B = (rows_B**2 - (predicted_BC**2).sum(axis=1)) * (rows_B**2 - (actual_BC**2).sum(axis=1))
    return np.where(spread_B > 0, covariance_B / np.sqrt(np.where(spread_B > 0, spread_B, 1)), 0.0)


def correlation(x_BR: Array, y_BR: Array) -> Floats:
    """Pearson's r of each pair of vectors, [B]; NaN where one is constant."""
    x_BR, y_BR = (np.asarray(v, dtype=np.float64) for v in (x_BR, y_BR))
    constant_B = (np.ptp(x_BR, axis=1) == 0) | (np.ptp(y_BR, axis=1) == 0)
    x_BR, y_BR = (v - v.mean(axis=1, keepdims=True) for v in (x_BR, y_BR))
    spread_B = np.sqrt((x_BR * x_BR).sum(axis=1)) * np.sqrt((y_BR * y_BR).sum(axis=1))
    constant_B |= spread_B == 0
    r_B = (x_BR * y_BR).sum(axis=1) / np.where(constant_B, 1, spread_B)
    return np.where(constant_B, np.nan, np.clip(r_B, -1, 1))


def mid_ranks(values_BR: Array) -> Floats:
    """Ranks 1..R within each vector; ties get the mean of their ranks."""
    order_BR = np.argsort(values_BR, axis=1, kind="stable")
    sorted_BR = np.take_along_axis(values_BR, order_BR, axis=1)
    index_R = np.arange(values_BR.shape[1])
    edge = np.ones((len(values_BR), 1), dtype=bool)
    differs = sorted_BR[:, 1:] != sorted_BR[:, :-1]
    first_BR = np.maximum.accumulate(np.where(np.hstack([edge, differs]), index_R, 0), axis=1)
    ends_BR = np.where(np.hstack([differs, edge]), index_R, len(index_R))
    last_BR = np.minimum.accumulate(ends_BR[:, ::-1], axis=1)[:, ::-1]
    ranks_BR = np.empty(values_BR.shape)
    np.put_along_axis(ranks_BR, order_BR, (first_BR + last_BR) / 2 + 1, axis=1)
    return ranks_BR


def _per_class(index_BR: Array, classes: int, keep_BR: Array | None = None) -> Floats:
    """Counts of each class in each vector, [B, C], of the elements where `keep_BR` is true."""
    cells_BR = index_BR + classes * np.arange(len(index_BR))[:, None]
    cells = cells_BR.ravel() if keep_BR is None else cells_BR[keep_BR]
    return np.bincount(cells, minlength=classes * len(index_BR)).reshape(-1, classes).astype(np.float64)


def in_chunks(draws: int, rows: int) -> Iterator[int]:
    """Splits `draws` into chunks of at most about a million elements (draws x rows), which bounds memory."""
    at_once = max(1, ELEMENTS_AT_ONCE // max(1, rows))
    for start in range(0, draws, at_once):
        yield min(at_once, draws - start)


def resample_rows(rows: int, resamples: int, generator: np.random.Generator) -> Iterator[Array]:
    """Bootstrap resamples: row indices drawn with replacement, in chunks [B, rows], `resamples` vectors in total."""
    for chunk in in_chunks(resamples, rows):
        yield generator.integers(0, rows, size=(chunk, rows), dtype=np.int64)


def interval(draws: Floats, confidence: float) -> tuple[float, float] | None:
    """The percentile interval of resampled scores, NaN ignored; None if all are NaN."""
    defined = draws[~np.isnan(draws)]
    if not len(defined):
        return None
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def bootstrap_intervals(
    task: Task,
    predictions: Array,
    labels: Array,
    *,
    resamples: int,
    confidence: float,
    generator: np.random.Generator,
) -> dict[str, float]:
    """`<metric>_low` and `<metric>_high` of every defined metric, by percentile bootstrap over rows.

    predictions, labels: as for `score`. confidence: the confidence level, e.g. 0.95.
    """
    predicted_R = to_predictions(task, predictions)
    metrics = [m for m in METRICS[task.kind] if m in score_predictions(task, predicted_R, labels)]
    draws: dict[Metric, list[Floats]] = {metric: [] for metric in metrics}
    for rows_BR in resample_rows(len(labels), resamples, generator) if metrics else ():
        for metric in metrics:
            draws[metric].append(score_many(metric, predicted_R[rows_BR], labels[rows_BR], len(task.labels)))
    bounds: dict[str, float] = {}
    for metric, parts in draws.items():
        if (ends := interval(np.concatenate(parts), confidence)) is not None:
            bounds[f"{metric}_low"], bounds[f"{metric}_high"] = ends
    return bounds


def overall(tasks: Iterable[Task], scores: Mapping[str, Mapping[str, float]]) -> float | None:
    """The mean over tasks of each task's metric, scaled to 0..1.

    scores: metrics by task name. None if there is no task, or a task's metric is undefined.
    Source: Tayag and Walter, section 5.2: (acc_sst + acc_qqp + (r_sts + 1) / 2) / 3.
    """
    values = [(task.metric, scores.get(task.name, {}).get(task.metric)) for task in tasks]
    known = [normalised(metric, value) for metric, value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def row_losses(task: Task, outputs: Array, labels_R: Array) -> Floats:
    """The loss of each row, float64 [R]: cross-entropy, or the absolute error of a similarity."""
    if task.kind == "similarity":
        return np.asarray(np.abs(outputs - labels_R), dtype=np.float64)
    return np.asarray(-np.log(np.maximum(outputs[np.arange(len(labels_R)), labels_R], 1e-9)), dtype=np.float64)


class Bin(NamedTuple):
    """Rows whose highest probability is in one bin. confidence: its mean. accuracy: the share of correct rows."""

    confidence: float
    accuracy: float
    rows: int


def calibration(probabilities_RC: Array, labels_R: Array, bins: int = 10) -> list[Bin]:
    """Bins of equal width over the model's confidence, empty ones omitted: a reliability diagram."""
    confidence_R, correct_R = probabilities_RC.max(axis=1), probabilities_RC.argmax(axis=1) == labels_R
    bin_R = np.minimum((confidence_R * bins).astype(int), bins - 1)
    masks = [bin_R == number for number in range(bins)]
    return [Bin(float(confidence_R[m].mean()), float(correct_R[m].mean()), int(m.sum())) for m in masks if m.any()]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error: the mean of |confidence - accuracy| over rows (Guo et al. 2017)."""
    return sum(abs(b.confidence - b.accuracy) * b.rows for b in bins) / sum(b.rows for b in bins)


def rounded(value: Any) -> Any:
    """A copy of nested mappings with floats rounded to the five digits of metrics files, without minus zero."""
    if isinstance(value, Mapping):
        return {key: rounded(inner) for key, inner in value.items()}
    return round(float(value), DIGITS) + 0.0 if isinstance(value, float | np.floating) else value
