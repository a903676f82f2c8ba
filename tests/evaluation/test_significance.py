"""The paired test: honest when nothing differs, awake when something does, and the same from both sides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import permutation_test

from yourbert.core.tasks import METRICS, Metric
from yourbert.evaluation import significance
from yourbert.evaluation.metrics import Array, score_many
from yourbert.evaluation.significance import Comparison, Draws, compare, holm, mean_of, paired, verdict

ALL: list[Metric] = [*METRICS["classification"], *METRICS["similarity"]]


def answers(rng: np.random.Generator, labels_R: Array, seeds: int, right: float) -> Array:
    """Class indices that are right with probability `right`, a line per seed."""
    shape = (seeds, len(labels_R))
    return np.where(rng.random(shape) < right, labels_R, rng.integers(0, 3, shape))


def example(seed: int, metric: Metric, seeds: int = 2, rows: int = 120) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    labels_R: Array = np.zeros(rows)
    if metric in METRICS["classification"]:
        labels_R = rng.integers(0, 3, rows)
        return answers(rng, labels_R, seeds, 0.7), answers(rng, labels_R, seeds, 0.6), labels_R
    labels_R = rng.normal(size=rows)
    first_SR, second_SR = (labels_R + rng.normal(size=(seeds, rows)) for _ in range(2))
    return first_SR, second_SR, labels_R


def drawn(metric: Metric, first_SR: Array, second_SR: Array, labels_R: Array, seed: int = 0, n: int = 300) -> Draws:
    draws = paired(
        metric,
        first_SR,
        second_SR,
        labels_R,
        classes=3,
        permutations=n,
        resamples=n,
        generator=np.random.default_rng(seed),
    )
    assert draws is not None
    return draws


def compared(metric: Metric, first_SR: Array, second_SR: Array, labels_R: Array, seed: int = 0) -> Comparison:
    return compare(drawn(metric, first_SR, second_SR, labels_R, seed), confidence=0.95)


@pytest.mark.parametrize("metric", ["accuracy", "pearson"])
def test_shortcuts_equal_scoring_every_swap_anew(metric: Metric) -> None:
    first_SR, second_SR, labels_R = example(3, metric)
    quick_P = drawn(metric, first_SR, second_SR, labels_R, n=50).swapped_P
    rng = np.random.default_rng(0)
    swaps = iter([rng.integers(0, 2, size=(50, len(labels_R)), dtype=np.bool_)])
    slow_P = np.concatenate(list(significance._swapped_any(metric, first_SR, second_SR, labels_R, 3, swaps)))
    np.testing.assert_allclose(quick_P, slow_P, atol=1e-12)


@pytest.mark.parametrize("metric", ALL)
def test_the_difference_is_that_of_the_mean_scores(metric: Metric) -> None:
    first_SR, second_SR, labels_R = example(4, metric)
    labels_SR = np.stack([labels_R, labels_R])
    first, second = (score_many(metric, x, labels_SR, 3).mean() for x in (first_SR, second_SR))
    found = compared(metric, first_SR, second_SR, labels_R)
    assert found.difference == pytest.approx(first - second, abs=1e-12)
    assert found.low < found.difference < found.high


@pytest.mark.parametrize("metric", ALL)
def test_both_sides_tell_the_same(metric: Metric) -> None:
    first_SR, second_SR, labels_R = example(5, metric)
    there, back = (compared(metric, a, b, labels_R) for a, b in ((first_SR, second_SR), (second_SR, first_SR)))
    assert there.p == back.p
    assert there.difference == pytest.approx(-back.difference, abs=1e-12)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=1e-12)


def test_p_agrees_with_scipys_paired_permutation_test() -> None:
    first_SR, second_SR, labels_R = example(6, "accuracy", seeds=1, rows=200)
    hits = [(x[0] == labels_R).astype(float) for x in (first_SR, second_SR)]
    expected = permutation_test(
        hits,
        lambda a, b: a.mean() - b.mean(),
        permutation_type="samples",
        n_resamples=4000,
        rng=np.random.default_rng(0),
    ).pvalue
    found = compare(drawn("accuracy", first_SR, second_SR, labels_R, n=4000), confidence=0.95)
    assert found.p == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("metric", ["accuracy", "pearson"])
def test_nothing_differs_and_false_alarms_are_as_rare_as_alpha(metric: Metric) -> None:
    """Over 200 pairs of equal models p is about uniform (a little higher, as accuracies often tie)."""
    p_values = np.zeros(200)
    for seed in range(200):
        first_SR, second_SR, labels_R = example(seed, metric)
        if metric == "accuracy":
            first_SR = answers(np.random.default_rng([seed, 1]), labels_R, 2, 0.6)
        p_values[seed] = compared(metric, first_SR, second_SR, labels_R, seed).p
    assert (p_values <= 0.05).mean() <= 0.08
    assert 0.4 <= (p_values <= 0.5).mean() <= 0.6


@pytest.mark.parametrize("metric", ALL)
def test_a_real_difference_is_found(metric: Metric) -> None:
    rng = np.random.default_rng(9)
    labels_R: Array = np.zeros(500)
    if metric in METRICS["classification"]:
        labels_R = rng.integers(0, 3, 500)
        first_SR, second_SR = answers(rng, labels_R, 2, 0.8), answers(rng, labels_R, 2, 0.6)
    else:
        labels_R = rng.normal(size=500)
        first_SR, second_SR = (labels_R + scale * rng.normal(size=(2, 500)) for scale in (0.7, 1.2))
    found = compared(metric, first_SR, second_SR, labels_R)
    assert found.p == pytest.approx(1 / 301) and found.low > 0
    assert verdict(found.difference, found.p, 0.05) == "better"


@pytest.mark.parametrize("metric", ALL)
def test_a_model_against_itself_is_no_change(metric: Metric) -> None:
    first_SR, _, labels_R = example(1, metric)
    found = compared(metric, first_SR, first_SR.copy(), labels_R)
    assert (found.difference, found.p) == (0.0, 1.0)
    assert verdict(found.difference, found.p, 0.05) == "no real change"


def test_an_undefined_score_has_no_comparison() -> None:
    first_SR, _, labels_R = example(1, "pearson")
    flat_SR = np.full_like(first_SR, 2.0)
    settings = {"classes": 0, "permutations": 9, "resamples": 9, "generator": np.random.default_rng(0)}
    assert paired("pearson", first_SR, flat_SR, labels_R, **settings) is None  # type: ignore[arg-type]


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    first_SR, second_SR, labels_R = example(2, "pearson")
    whole = compared("pearson", first_SR, second_SR, labels_R)
    monkeypatch.setattr("yourbert.evaluation.metrics.ELEMENTS_AT_ONCE", 1000)
    parts = compared("pearson", first_SR, second_SR, labels_R)
    assert (whole.p, whole.low, whole.high) == pytest.approx((parts.p, parts.low, parts.high), abs=1e-12)


def test_the_mean_of_tasks_weighs_each_difference() -> None:
    one, two = (drawn(m, *example(7, m)) for m in ("accuracy", "pearson"))
    both = mean_of([(1.0, one), (0.5, two)])
    assert both.seen == pytest.approx((one.seen + 0.5 * two.seen) / 2)
    np.testing.assert_allclose(both.swapped_P, (one.swapped_P + 0.5 * two.swapped_P) / 2)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_never_lowers_p_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


def test_verdicts() -> None:
    assert verdict(0.1, 0.05, 0.05) == "better"
    assert verdict(-0.1, 0.01, 0.05) == "worse"
    assert verdict(0.1, 0.0501, 0.05) == "no real change"
