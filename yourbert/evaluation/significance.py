"""Compares two models on the same rows: a permutation test, its interval, an equivalence test, Holm's correction.

Test: if two models were equally good, it would not matter which of them gave which prediction for a row. The
predictions of the two are swapped on random rows, P times; p is the share of swaps whose difference is at least as
large as the observed one. With several seeds per model the same rows are swapped in all of them, and a model's score is
its mean over seeds.

Interval: the observed difference plus or minus the quantile of the swapped differences. It comes from the same swaps at
the same corrected level as the test, so it excludes 0 exactly where the test is significant.

Equivalence: two one-sided tests (TOST) against a margin, on the same swaps, each at half the level. They are
significant exactly where the interval lies inside the margin.

Shapes: S seeds, R rows, P permutations, B bootstrap samples, K sums. Data flow: metrics -> significance -> report.
Sources: Noreen 1989, "Computer-Intensive Methods for Testing Hypotheses"; Yeh 2000, "More accurate tests for the
statistical significance of result differences"; Holm 1979, "A simple sequentially rejective multiple test procedure";
Schuirmann 1987, "A comparison of the two one-sided tests procedure and the power approach".
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, Literal, TypeVar

import numpy as np

from yourbert.core.tasks import Metric
from yourbert.evaluation.metrics import Array, Floats, in_chunks, resample_rows, score_many

Verdict = Literal["better", "worse", "equivalent", "undecided"]
K = TypeVar("K", bound=Hashable)
TIE = 1e-12  # differences closer than this are the same number, computed in another order


@dataclass(frozen=True, kw_only=True, eq=False)
class Differences:
    """The score differences of two models: observed, and after each of P random swaps.

    by_seed: the observed difference of each seed. rows: dev rows behind the score. fewest: those of the smallest task
    in a mean over tasks. identical: whether both models predict the same for every row.
    """

    observed: float
    swapped_P: Floats
    by_seed: tuple[float, ...]
    rows: int
    fewest: int
    identical: bool


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The first model against the second: `difference` is score(first) - score(second).

    p: two-sided, of the permutation test. p_holm: corrected over all comparisons of the family. low, high: the interval
    at `level`, the significance level that Holm's procedure gives this comparison. p_equivalence: of the two one-sided
    tests; compare it with level / 2. verdict: "better" or "worse" where the interval excludes 0, "equivalent" where it
    lies inside the margin, else "undecided". rows_to_decide, seeds_to_decide: about how many dev rows (or seeds, where
    the variance across seeds is the larger part) would decide it, if the difference stays as observed.
    """

    difference: float
    low: float
    high: float
    level: float
    margin: float
    p: float
    p_holm: float
    p_equivalence: float
    verdict: Verdict
    identical: bool = False
    rows_to_decide: int | None = None
    seeds_to_decide: int | None = None

    def to_json(self) -> dict[str, Any]:
        optional = {key: getattr(self, key) for key in ("rows_to_decide", "seeds_to_decide") if getattr(self, key)}
        keys = ("difference", "low", "high", "level", "margin", "p", "p_holm", "p_equivalence", "verdict")
        return {key: getattr(self, key) for key in keys} | optional


def paired(
    metric: Metric,
    first_SR: Array,
    second_SR: Array,
    labels_R: Array,
    *,
    classes: int,
    permutations: int,
    generator: np.random.Generator,
) -> Differences | None:
    """The differences score(first) - score(second) on the same rows; None when a score is undefined.

    first_SR, second_SR: class indices or similarities, one line per seed, the same seeds in both.
    """
    assert first_SR.shape == second_SR.shape and first_SR.shape[1:] == labels_R.shape, "same seeds, same rows"
    first_S, second_S = (_scores(metric, predicted_SR, labels_R, classes) for predicted_SR in (first_SR, second_SR))
    observed = first_S.mean() - second_S.mean()
    if np.isnan(observed):
        return None
    rows = len(labels_R)
    swaps = (generator.integers(0, 2, size=(n, rows), dtype=np.bool_) for n in in_chunks(permutations, rows))
    swapped_P = np.concatenate(list(_swapped(metric, first_SR, second_SR, labels_R, classes, swaps)))
    return Differences(
        observed=float(observed), swapped_P=swapped_P, by_seed=tuple((first_S - second_S).tolist()), rows=rows,
        fewest=rows, identical=np.array_equal(first_SR, second_SR),
    )  # fmt: skip


def _scores(metric: Metric, predicted_SR: Array, labels_R: Array, classes: int) -> Floats:
    """The score of each seed; NaN where undefined."""
    return score_many(metric, predicted_SR, np.broadcast_to(labels_R, predicted_SR.shape), classes)


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
    """The mean score over seeds on B bootstrap samples of the rows; `metrics.interval` takes an interval from them."""
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
    """Any metric: swaps the predictions and scores both models again."""
    for swap_PR in swaps:
        labels_PR = np.broadcast_to(labels_R, swap_PR.shape)
        gains_SP = [
            score_many(metric, np.where(swap_PR, second_R, first_R), labels_PR, classes)
            - score_many(metric, np.where(swap_PR, first_R, second_R), labels_PR, classes)
            for first_R, second_R in zip(first_SR, second_SR, strict=True)
        ]
        yield np.asarray(np.mean(gains_SP, axis=0))


def mean_of(parts: Sequence[tuple[float, Differences]]) -> Differences:
    """The mean of several tasks' differences, each times its factor; the tasks' rows are independent."""
    assert parts, "a mean needs a part"
    seeds = zip(*([factor * one for one in task.by_seed] for factor, task in parts), strict=True)
    return Differences(
        observed=float(np.mean([factor * task.observed for factor, task in parts])),
        swapped_P=np.mean([factor * task.swapped_P for factor, task in parts], axis=0),
        by_seed=tuple(float(np.mean(one)) for one in seeds),
        rows=sum(task.rows for _, task in parts),
        fewest=min(task.fewest for _, task in parts),
        identical=all(task.identical for _, task in parts),
    )


def compare(family: Mapping[K, Differences], alpha: float, margin: float) -> dict[K, Comparison]:
    """Tests every comparison of a family, corrected over all of them.

    alpha: the chance of one or more false "better" or "worse" in the family. margin: of equivalence, in units of the
    score. Each comparison gets the level of Holm's step: alpha / (m - k) for the k-th smallest p of m, k from 0; from
    the first that is not significant on, all get that one's level.
    """
    p_values = {key: p_value(one.swapped_P, one.observed) for key, one in family.items()}
    corrected = dict(zip(p_values, holm([*p_values.values()]), strict=True))
    levels, level, open_steps = {}, alpha, True
    for k, key in enumerate(sorted(p_values, key=p_values.__getitem__)):
        if open_steps:
            level = alpha / (len(p_values) - k)
            open_steps = p_values[key] <= level * (1 + TIE)
        levels[key] = level
    return {key: _comparison(one, p_values[key], corrected[key], levels[key], margin) for key, one in family.items()}


def p_value(swapped_P: Floats, difference: float) -> float:
    """Two-sided: (1 + swaps at least as extreme) / (1 + swaps).

    A swap that leaves a score undefined counts as extreme, so that it can only make p larger.
    """
    milder = int((np.abs(swapped_P) < abs(difference) - TIE).sum())
    return (1 + len(swapped_P) - milder) / (1 + len(swapped_P))


def _comparison(one: Differences, p: float, p_holm: float, level: float, margin: float) -> Comparison:
    difference, half = one.observed, half_width(one.swapped_P, level)
    known = half if np.isfinite(half) else max(1.0, abs(difference))  # too few swaps for this level: no verdict
    # The chance to see no disagreement at all among R rows, if models disagree on a share `margin` of them, is
    # (1 - margin)^R. On fewer rows than this even identical predictions are no evidence of equivalence.
    least = math.ceil(math.log(level) / math.log1p(-margin))
    # One-sided p of "the true difference is at least the margin away": half the two-sided share.
    beyond = p_value(one.swapped_P, margin - abs(difference)) / 2
    verdict: Verdict = "undecided"
    if abs(difference) > known:
        verdict = "better" if difference > 0 else "worse"
    elif abs(difference) + known < margin and one.fewest >= least:
        verdict = "equivalent"
    found = Comparison(
        difference=difference, low=difference - known, high=difference + known, level=level, margin=margin, p=p,
        p_holm=p_holm, p_equivalence=beyond if abs(difference) <= margin else 1 - beyond, verdict=verdict,
        identical=one.identical,
    )  # fmt: skip
    return found if verdict != "undecided" or not np.isfinite(half) else _with_sizes(found, one, half, least)


def half_width(swapped_P: Floats, level: float) -> float:
    """The least h for which |difference| > h is the same as p <= level; infinite where no p can be so small."""
    allowed = math.floor(level * (1 + len(swapped_P)) * (1 + TIE)) - 1  # swaps that may be at least as extreme
    if allowed < 0:
        return math.inf
    extreme_P = np.sort(np.nan_to_num(np.abs(swapped_P), nan=np.inf))[::-1]
    return float(extreme_P[allowed]) + TIE if allowed < len(extreme_P) else 0.0


def _with_sizes(found: Comparison, one: Differences, half: float, least: int) -> Comparison:
    """Adds about how many rows or seeds would decide it: the width of an interval shrinks with their square root."""
    size, room = abs(found.difference), found.margin - abs(found.difference)
    goal = max(size, room)  # to exclude 0, or to lie inside the margin, whichever is nearer
    rows = one.rows * (half / goal) ** 2
    if room >= size:
        rows = max(rows, one.rows / one.fewest * least)
    seeds = len(one.by_seed)
    if seeds > 1:
        deviation = float(np.std(one.by_seed, ddof=1)) / math.sqrt(seeds)
        of_seeds = NormalDist().inv_cdf(1 - found.level / 2) * deviation
        if of_seeds > max(half, goal):
            return replace(found, seeds_to_decide=math.ceil(seeds * (of_seeds / goal) ** 2))
    return replace(found, rows_to_decide=math.ceil(max(rows, one.rows + 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down p-values: reject those at most alpha, and the family-wise error rate is at most alpha."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted
