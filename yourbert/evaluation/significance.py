"""Is a difference between two models real? The paired approximate-randomisation test, and Holm's correction.

If two models were equally good, it would not matter which of them gave which answer to a row. So the answers of the
two are swapped on random rows, again and again, and the p-value is the share of swaps whose difference is at least as
large as the one seen. With several seeds per model the same rows are swapped in all of them, and a model's score is
the mean over its seeds. The interval of a difference comes from resampled rows, the same for both models.

Shapes: S seeds, R rows, P permutations, B resamples, K sums. Place in the flow: metrics -> significance -> report.
Sources: Noreen 1989, "Computer-Intensive Methods for Testing Hypotheses"; Yeh 2000, "More accurate tests for the
statistical significance of result differences"; Holm 1979, "A simple sequentially rejective multiple test procedure".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from yourbert.core.tasks import Metric
from yourbert.evaluation.metrics import Array, Floats, in_chunks, interval, resample_rows, score_many

Verdict = Literal["better", "worse", "no real change"]
TIE = 1e-12  # differences closer than this are the same number, computed in another order


@dataclass(frozen=True, kw_only=True, eq=False)
class Draws:
    """The difference of two models: as seen, after P random swaps, and on B resampled sets of rows."""

    seen: float
    swapped_P: Floats
    resampled_B: Floats


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How far the first model is above the second. p: two-sided, before any correction. low, high: an interval."""

    difference: float
    low: float
    high: float
    p: float


def paired(
    metric: Metric,
    first_SR: Array,
    second_SR: Array,
    labels_R: Array,
    *,
    classes: int,
    permutations: int,
    resamples: int,
    generator: np.random.Generator,
) -> Draws | None:
    """Draws of score(first) - score(second) on the same rows; None when a score is undefined.

    first_SR, second_SR: class indices or similarities, a line per seed, as many seeds in both.
    """
    assert first_SR.shape == second_SR.shape and first_SR.shape[1:] == labels_R.shape, "same seeds, same rows"
    seen = _mean_score(metric, first_SR, labels_R, classes) - _mean_score(metric, second_SR, labels_R, classes)
    if np.isnan(seen):
        return None
    rows = len(labels_R)
    swaps = (generator.integers(0, 2, size=(n, rows), dtype=np.bool_) for n in in_chunks(permutations, rows))
    swapped_P = np.concatenate(list(_swapped(metric, first_SR, second_SR, labels_R, classes, swaps)))
    chosen = resample_rows(rows, resamples, generator)
    resampled_B = np.concatenate(
        [
            _resampled(metric, first_SR, labels_R, classes, rows_BR)
            - _resampled(metric, second_SR, labels_R, classes, rows_BR)
            for rows_BR in chosen
        ]
    )
    return Draws(seen=float(seen), swapped_P=swapped_P, resampled_B=resampled_B)


def _mean_score(metric: Metric, predicted_SR: Array, labels_R: Array, classes: int) -> np.float64:
    """The mean over seeds; NaN when one of them is undefined."""
    labels_SR = np.broadcast_to(labels_R, predicted_SR.shape)
    return np.float64(score_many(metric, predicted_SR, labels_SR, classes).mean())


def _resampled(metric: Metric, predicted_SR: Array, labels_R: Array, classes: int, rows_BR: Array) -> Floats:
    """The mean over seeds on each resampled set of rows."""
    if metric == "accuracy":
        return np.asarray((predicted_SR == labels_R).mean(axis=0)[rows_BR].mean(axis=1))
    scores_B = [score_many(metric, one_R[rows_BR], labels_R[rows_BR], classes) for one_R in predicted_SR]
    return np.asarray(np.mean(scores_B, axis=0))


def resampled_means(
    metric: Metric,
    predicted_SR: Array,
    labels_R: Array,
    *,
    classes: int,
    resamples: int,
    generator: np.random.Generator,
) -> Floats:
    """The mean score over seeds on B resampled sets of rows, from which `metrics.interval` takes an interval."""
    chosen = resample_rows(len(labels_R), resamples, generator)
    return np.concatenate([_resampled(metric, predicted_SR, labels_R, classes, rows_BR) for rows_BR in chosen])


def _swapped(
    metric: Metric, first_SR: Array, second_SR: Array, labels_R: Array, classes: int, swaps: Iterator[Array]
) -> Iterator[Floats]:
    """The difference after each swap, in chunks."""
    if metric == "accuracy":
        yield from _swapped_accuracy(first_SR, second_SR, labels_R, swaps)
    elif metric == "pearson":
        yield from _swapped_pearson(first_SR, second_SR, labels_R, swaps)
    else:
        yield from _swapped_any(metric, first_SR, second_SR, labels_R, classes, swaps)


def _swapped_accuracy(first_SR: Array, second_SR: Array, labels_R: Array, swaps: Iterator[Array]) -> Iterator[Floats]:
    """Swapping a row turns the sign of its share of the difference, and nothing else."""
    gain_R = (first_SR == labels_R).mean(axis=0) - (second_SR == labels_R).mean(axis=0)
    for swap_PR in swaps:
        yield (gain_R.sum() - 2 * (swap_PR @ gain_R)) / len(gain_R)


def _swapped_pearson(first_SR: Array, second_SR: Array, labels_R: Array, swaps: Iterator[Array]) -> Iterator[Floats]:
    """A correlation needs three sums over rows, and swapping moves sums from one model to the other."""
    y_R = np.asarray(labels_R, dtype=np.float64)
    y_R = y_R - y_R.mean()
    middle_S1 = (first_SR + second_SR).mean(axis=1, keepdims=True) / 2
    first_RSK, second_RSK = _sums(first_SR - middle_S1, y_R), _sums(second_SR - middle_S1, y_R)
    moved_RK = (second_RSK - first_RSK).reshape(len(y_R), -1)
    for swap_PR in swaps:
        moved_PSK = (swap_PR @ moved_RK).reshape(len(swap_PR), *first_RSK.shape[1:])
        first_PS = _from_sums(first_RSK.sum(axis=0) + moved_PSK, y_R)
        second_PS = _from_sums(second_RSK.sum(axis=0) - moved_PSK, y_R)
        yield (first_PS - second_PS).mean(axis=1)


def _sums(x_SR: Array, y_R: Floats) -> Floats:
    """What each row adds to the sums of x, x squared and xy: [R, S, 3]."""
    x_RS = x_SR.T
    return np.stack([x_RS, x_RS**2, x_RS * y_R[:, None]], axis=-1)


def _from_sums(sums_PSK: Floats, y_R: Floats) -> Floats:
    """Pearson's r from the sums of x, x squared and xy, where the sum of y is 0; NaN for a constant x."""
    x_PS, xx_PS, xy_PS = np.moveaxis(sums_PSK, -1, 0)
    spread_PS = (xx_PS - x_PS**2 / len(y_R)) * (y_R @ y_R)
    varied_PS = spread_PS > TIE * xx_PS * (y_R @ y_R)
    return np.where(varied_PS, xy_PS / np.sqrt(np.where(varied_PS, spread_PS, 1)), np.nan)


def _swapped_any(
    metric: Metric, first_SR: Array, second_SR: Array, labels_R: Array, classes: int, swaps: Iterator[Array]
) -> Iterator[Floats]:
    """Any metric: swap the answers, score both models anew."""
    for swap_PR in swaps:
        labels_PR = np.broadcast_to(labels_R, swap_PR.shape)
        gains_SP = [
            score_many(metric, np.where(swap_PR, second_R, first_R), labels_PR, classes)
            - score_many(metric, np.where(swap_PR, first_R, second_R), labels_PR, classes)
            for first_R, second_R in zip(first_SR, second_SR, strict=True)
        ]
        yield np.asarray(np.mean(gains_SP, axis=0))


def mean_of(parts: Sequence[tuple[float, Draws]]) -> Draws:
    """The mean of several tasks' differences, each times its factor; the tasks' rows are independent."""
    assert parts, "a mean needs a part"
    return Draws(
        seen=float(np.mean([factor * draws.seen for factor, draws in parts])),
        swapped_P=np.mean([factor * draws.swapped_P for factor, draws in parts], axis=0),
        resampled_B=np.mean([factor * draws.resampled_B for factor, draws in parts], axis=0),
    )


def compare(draws: Draws, confidence: float) -> Comparison:
    """The difference, its interval, and p = (1 + swaps at least as extreme) / (1 + swaps).

    A swap that leaves a score undefined counts as extreme, so that it can only make p larger.
    """
    milder = int((np.abs(draws.swapped_P) < abs(draws.seen) - TIE).sum())
    low, high = interval(draws.resampled_B, confidence) or (draws.seen, draws.seen)
    p = (1 + len(draws.swapped_P) - milder) / (1 + len(draws.swapped_P))
    return Comparison(difference=draws.seen, low=low, high=high, p=p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down p-values: compare each with alpha, and one false alarm among all is rarer than alpha."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def verdict(difference: float, p: float, alpha: float) -> Verdict:
    """What a difference means at level alpha."""
    if p > alpha or difference == 0:
        return "no real change"
    return "better" if difference > 0 else "worse"
