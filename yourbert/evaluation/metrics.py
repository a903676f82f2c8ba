"""Scores from predictions, with intervals: what a number is worth when the dev set is a sample.

One function, `score_many`, turns many (prediction, label) vectors into many scores at once. Plain scoring
gives it one vector; the bootstrap gives it resampled rows; the paired test gives it swapped rows. All scores
equal those of scikit-learn and SciPy. An undefined score (a correlation with a constant) is left out, never
written as NaN.

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
RESAMPLING = 0  # the seed of resamples and permutations: no part of a run, so not among its seeds


def bootstrap_rng(task: Task, split: Split) -> np.random.Generator:
    """The generator of a split's resamples: the same rows for every model and in the report, so all compare."""
    return rng_for(RESAMPLING, "bootstrap", task.name, split)


def decided(task: Task, outputs: Array) -> Array:
    """What the model says: probabilities_RC -> class index [R]; a similarity [R] stays as it is, in float64.

    Raises UserError (T01) when an output is not a finite number.
    """
    if not np.isfinite(outputs).all():
        bad = int((~np.isfinite(outputs)).reshape(len(outputs), -1).any(axis=1).sum())
        what = f"task '{task.name}': the model's output is not a number for {bad} of {len(outputs)} rows"
        fail("T01", what, fix="train again with a lower lr")
    if task.kind == "similarity":
        return np.asarray(outputs, dtype=np.float64)
    assert outputs.ndim == 2 and outputs.shape[1] == len(task.labels), "one probability per row and class"
    return np.asarray(outputs.argmax(axis=1), dtype=np.int64)


def score(task: Task, predictions: Array, labels: Array) -> dict[str, float]:
    """Every metric of the task's kind, in full precision; undefined ones are absent (`undefined` says why).

    predictions: probabilities_RC of a classification, or similarities [R]. labels: class index or float [R].
    Raises UserError (T01) when a prediction is not a finite number.
    """
    return score_decided(task, decided(task, predictions), labels)


def score_decided(task: Task, predicted_R: Array, labels_R: Array) -> dict[str, float]:
    """`score` for predictions that are already class indices (or similarities)."""
    assert len(predicted_R) == len(labels_R), "one prediction per label"
    if len(labels_R) == 0:
        return {}
    one_BR, classes = (predicted_R[None], labels_R[None]), len(task.labels)
    found = {metric: float(score_many(metric, *one_BR, classes)[0]) for metric in METRICS[task.kind]}
    return {metric: value for metric, value in found.items() if not np.isnan(value)}


def undefined(task: Task, predicted_R: Array, labels_R: Array) -> str:
    """Why a score of the task cannot be computed on these rows; "" when all can."""
    if len(labels_R) == 0:
        return "undefined: no rows"
    if task.kind == "similarity":
        for what, values in (("label", labels_R), ("prediction", predicted_R)):
            if np.ptp(values) == 0:
                return f"undefined: every {what} is {float(values[0]):.6g}"
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
    """As in scikit-learn: macro-F1 over the classes that occur; Matthews' correlation, 0 where undefined."""
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
    """Pearson's r of each row pair; NaN where one side is constant."""
    x_BR, y_BR = (np.asarray(v, dtype=np.float64) for v in (x_BR, y_BR))
    constant_B = (np.ptp(x_BR, axis=1) == 0) | (np.ptp(y_BR, axis=1) == 0)
    x_BR, y_BR = (v - v.mean(axis=1, keepdims=True) for v in (x_BR, y_BR))
    spread_B = np.sqrt((x_BR * x_BR).sum(axis=1)) * np.sqrt((y_BR * y_BR).sum(axis=1))
    constant_B |= spread_B == 0
    r_B = (x_BR * y_BR).sum(axis=1) / np.where(constant_B, 1, spread_B)
    return np.where(constant_B, np.nan, np.clip(r_B, -1, 1))


def mid_ranks(values_BR: Array) -> Floats:
    """Ranks 1..R inside each vector; equal values share the mean of their ranks."""
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
    """How often each class stands in each vector (where `keep_BR` holds)."""
    cells_BR = index_BR + classes * np.arange(len(index_BR))[:, None]
    cells = cells_BR.ravel() if keep_BR is None else cells_BR[keep_BR]
    return np.bincount(cells, minlength=classes * len(index_BR)).reshape(-1, classes).astype(np.float64)


def in_chunks(draws: int, rows: int) -> Iterator[int]:
    """Splits `draws` so that a chunk times `rows` stays near a million elements: memory stays bounded."""
    at_once = max(1, ELEMENTS_AT_ONCE // max(1, rows))
    for start in range(0, draws, at_once):
        yield min(at_once, draws - start)


def resample_rows(rows: int, resamples: int, generator: np.random.Generator) -> Iterator[Array]:
    """Row indices drawn with replacement, in chunks of shape [B, rows], `resamples` vectors in all."""
    for chunk in in_chunks(resamples, rows):
        yield generator.integers(0, rows, size=(chunk, rows), dtype=np.int64)


def interval(draws: Floats, confidence: float) -> tuple[float, float] | None:
    """The percentile interval of resampled scores; None when not one of them is defined."""
    defined = draws[~np.isnan(draws)]
    if not len(defined):
        return None
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def intervals(
    task: Task,
    predictions: Array,
    labels: Array,
    *,
    resamples: int,
    confidence: float,
    generator: np.random.Generator,
) -> dict[str, float]:
    """`<metric>_low` and `<metric>_high` of every metric that is defined, by percentile bootstrap over rows.

    predictions, labels: as for `score`. confidence: the share of resampled scores inside, e.g. 0.95.
    """
    predicted_R = decided(task, predictions)
    metrics = [m for m in METRICS[task.kind] if m in score_decided(task, predicted_R, labels)]
    draws: dict[Metric, list[Floats]] = {metric: [] for metric in metrics}
    for rows_BR in resample_rows(len(labels), resamples, generator) if metrics else ():
        for metric in metrics:
            draws[metric].append(score_many(metric, predicted_R[rows_BR], labels[rows_BR], len(task.labels)))
    found = {metric: interval(np.concatenate(parts), confidence) for metric, parts in draws.items()}
    ends = {metric: pair for metric, pair in found.items() if pair is not None}
    named = (((f"{metric}_low", low), (f"{metric}_high", high)) for metric, (low, high) in ends.items())
    return dict(pair for both in named for pair in both)


def overall(tasks: Iterable[Task], scores: Mapping[str, Mapping[str, float]]) -> float | None:
    """The mean over tasks of their own metric on 0..1, which is the study's formula for sst, quora and sts.

    scores: metrics by task name. None when there is no task, or a task's metric is undefined.
    Source: Tayag and Walter, section 5.2: (acc_sst + acc_qqp + (r_sts + 1) / 2) / 3.
    """
    values = [(task.metric, scores.get(task.name, {}).get(task.metric)) for task in tasks]
    known = [normalised(metric, value) for metric, value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def row_losses(task: Task, outputs: Array, labels_R: Array) -> Floats:
    """How wrong each row is: minus the log of its label's probability, or how far the similarity is off."""
    if task.kind == "similarity":
        return np.asarray(np.abs(outputs - labels_R), dtype=np.float64)
    return np.asarray(-np.log(np.maximum(outputs[np.arange(len(labels_R)), labels_R], 1e-9)), dtype=np.float64)


class Bin(NamedTuple):
    """Rows whose highest probability lies between two bounds: its mean, how many are right, and how many there are."""

    confidence: float
    accuracy: float
    rows: int


def calibration(probabilities_RC: Array, labels_R: Array, bins: int = 10) -> list[Bin]:
    """Equal bins of the model's confidence, those without rows left out."""
    confidence_R, right_R = probabilities_RC.max(axis=1), probabilities_RC.argmax(axis=1) == labels_R
    bin_R = np.minimum((confidence_R * bins).astype(int), bins - 1)
    held = [bin_R == number for number in range(bins)]
    return [Bin(float(confidence_R[m].mean()), float(right_R[m].mean()), int(m.sum())) for m in held if m.any()]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error: how far confidence and accuracy are apart, over rows (Guo et al. 2017)."""
    return sum(abs(b.confidence - b.accuracy) * b.rows for b in bins) / sum(b.rows for b in bins)


def rounded(value: Any) -> Any:
    """A copy of nested mappings, every float at the five digits of metrics files (and no minus zero)."""
    if isinstance(value, Mapping):
        return {key: rounded(inner) for key, inner in value.items()}
    return round(float(value), DIGITS) + 0.0 if isinstance(value, float | np.floating) else value
