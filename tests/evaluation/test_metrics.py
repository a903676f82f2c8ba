"""Metrics equal scikit-learn's and SciPy's; intervals have their nominal coverage; nothing is ever NaN."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, rankdata, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from yourbert.core.errors import UserError
from yourbert.core.tasks import Task
from yourbert.evaluation import metrics


def classification(classes: int) -> Task:
    labels = tuple(str(c) for c in range(classes))
    return Task(
        name="c",
        kind="classification",
        labels=labels,
        low=0,
        high=1,
        pair=False,
        encoding="cross",
        metric="accuracy",
        max_length=8,
        truncation_side="right",
    )


def similarity(name: str = "s") -> Task:
    return Task(
        name=name,
        kind="similarity",
        labels=(),
        low=0,
        high=5,
        pair=True,
        encoding="cross",
        metric="pearson",
        max_length=8,
        truncation_side="right",
    )


def certain(index_R: metrics.Array, classes: int) -> metrics.Array:
    """Probabilities that say `index_R`."""
    return np.eye(classes)[index_R]


@pytest.mark.filterwarnings("ignore:A single label was found")
@given(st.data(), st.integers(2, 6), st.integers(1, 60))
@settings(max_examples=300, deadline=None)
def test_classification_scores_equal_scikit_learn(data: st.DataObject, classes: int, rows: int) -> None:
    classes_R = st.lists(st.integers(0, classes - 1), min_size=rows, max_size=rows)
    actual_R, said_R = np.array(data.draw(classes_R)), np.array(data.draw(classes_R))
    found = metrics.score(classification(classes), certain(said_R, classes), actual_R)
    assert found["accuracy"] == pytest.approx(accuracy_score(actual_R, said_R), abs=1e-12)
    assert found["macro_f1"] == pytest.approx(f1_score(actual_R, said_R, average="macro"), abs=1e-12)
    assert found["mcc"] == pytest.approx(matthews_corrcoef(actual_R, said_R), abs=1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(3, 80), st.booleans())
@settings(max_examples=200, deadline=None)
def test_correlations_equal_scipy_also_with_ties(seed: int, rows: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    said_R, actual_R = rng.normal(size=rows), rng.normal(size=rows).astype(np.float32)
    if ties:
        said_R, actual_R = np.round(said_R), np.round(actual_R)
    found = metrics.score(similarity(), said_R, actual_R)
    if np.ptp(said_R) == 0 or np.ptp(actual_R) == 0:
        assert found == {}
    else:
        assert found["pearson"] == pytest.approx(pearsonr(said_R, actual_R.astype(float))[0], abs=1e-9)
        assert found["spearman"] == pytest.approx(spearmanr(said_R, actual_R)[0], abs=1e-9)


@given(st.lists(st.lists(st.integers(-3, 3), min_size=7, max_size=7), min_size=1, max_size=5))
def test_mid_ranks_equal_scipy(values: list[list[int]]) -> None:
    np.testing.assert_array_equal(metrics.mid_ranks(np.array(values)), rankdata(values, axis=1))


def test_correlation_survives_a_large_offset() -> None:
    said_R = np.random.default_rng(0).normal(size=500)
    actual_R = said_R + np.random.default_rng(1).normal(size=500)
    moved = metrics.score(similarity(), said_R + 1e6, actual_R)["pearson"]
    assert moved == pytest.approx(pearsonr(said_R, actual_R)[0], abs=1e-6)


@pytest.mark.parametrize("constant", [0.0, 0.1, 3.0])
@pytest.mark.parametrize("side", ["label", "prediction"])
def test_a_constant_side_makes_a_correlation_undefined(constant: float, side: str) -> None:
    varied, flat = np.linspace(0, 5, 9), np.full(9, constant)
    said_R, actual_R = (varied, flat) if side == "label" else (flat, varied)
    assert metrics.score(similarity(), said_R, actual_R) == {}
    assert metrics.undefined(similarity(), said_R, actual_R) == f"undefined: every {side} is {constant:.6g}"
    assert intervals_of(similarity(), said_R, actual_R) == {}


def test_no_rows_is_undefined_and_says_so() -> None:
    none = np.zeros(0)
    assert metrics.score(similarity(), none, none) == {}
    assert metrics.score(classification(2), np.zeros((0, 2)), none.astype(int)) == {}
    assert "no rows" in metrics.undefined(similarity(), none, none)


def test_one_class_everywhere_is_scored_not_nan() -> None:
    found = metrics.score(classification(2), certain(np.zeros(4, int), 2), np.zeros(4, int))
    assert found == {"accuracy": 1.0, "macro_f1": 1.0, "mcc": 0.0}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_finite_raise_a_user_error(bad: float) -> None:
    with pytest.raises(UserError, match=r"T01.*1 of 3 rows.*lower lr"):
        metrics.score(similarity(), np.array([0.1, bad, 0.2]), np.arange(3.0))


def intervals_of(task: Task, outputs: metrics.Array, labels: metrics.Array) -> dict[str, float]:
    generator = metrics.bootstrap_rng(task, "dev")
    return metrics.bootstrap_intervals(task, outputs, labels, resamples=400, confidence=0.95, generator=generator)


def test_intervals_hold_the_score_and_repeat() -> None:
    rng = np.random.default_rng(5)
    actual_R = rng.integers(0, 3, 200)
    outputs_RC = certain(np.where(rng.random(200) < 0.7, actual_R, rng.integers(0, 3, 200)), 3)
    found, scores = (
        intervals_of(classification(3), outputs_RC, actual_R),
        metrics.score(classification(3), outputs_RC, actual_R),
    )
    assert set(found) == {f"{metric}_{end}" for metric in scores for end in ("low", "high")}
    for metric, value in scores.items():
        assert found[f"{metric}_low"] < value < found[f"{metric}_high"]
    assert found == intervals_of(classification(3), outputs_RC, actual_R)


def test_accuracy_interval_has_the_binomial_width() -> None:
    """1.96 standard errors on either side: 0.0310 for 1,000 rows at 0.5."""
    hit_R = np.arange(1000) % 2
    found = intervals_of(classification(2), certain(hit_R, 2), np.zeros(1000, int))
    assert found["accuracy_high"] - 0.5 == pytest.approx(0.031, abs=0.004)
    assert 0.5 - found["accuracy_low"] == pytest.approx(0.031, abs=0.004)


def test_intervals_have_their_nominal_coverage() -> None:
    rng, covered = np.random.default_rng(11), 0
    for _ in range(200):
        hit_R = (rng.random(150) < 0.7).astype(int)
        found = intervals_of(classification(2), certain(hit_R, 2), np.ones(150, int))
        covered += found["accuracy_low"] <= 0.7 <= found["accuracy_high"]
    assert 0.89 <= covered / 200 <= 0.99


def test_correlation_interval_agrees_with_fisher() -> None:
    rng = np.random.default_rng(2)
    x_R = rng.normal(size=800)
    y_R = 0.8 * x_R + 0.6 * rng.normal(size=800)
    r, found = pearsonr(x_R, y_R)[0], intervals_of(similarity(), x_R, y_R)
    low, high = np.tanh(np.arctanh(r) + np.array([-1.96, 1.96]) / np.sqrt(797))
    assert found["pearson_low"] == pytest.approx(low, abs=0.01)
    assert found["pearson_high"] == pytest.approx(high, abs=0.01)


def test_memory_stays_bounded_for_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "ELEMENTS_AT_ONCE", 1000)
    sizes = [rows.shape for rows in metrics.resample_rows(300, 10, np.random.default_rng(0))]
    assert sizes == [(3, 300)] * 3 + [(1, 300)]
    assert [r.shape for r in metrics.resample_rows(5000, 2, np.random.default_rng(0))] == [(1, 5000)] * 2


def test_chunks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(metrics.resample_rows(30, 10, np.random.default_rng(0))))
    monkeypatch.setattr(metrics, "ELEMENTS_AT_ONCE", 60)
    parts = np.concatenate(list(metrics.resample_rows(30, 10, np.random.default_rng(0))))
    np.testing.assert_array_equal(whole, parts)


def test_overall_equals_the_formula_of_the_study() -> None:
    tasks = [classification(5), similarity("sts")]
    scores = {"c": {"accuracy": 0.511, "mcc": 0.1}, "sts": {"pearson": 0.729}}
    assert metrics.overall(tasks, scores) == pytest.approx((0.511 + (0.729 + 1) / 2) / 2)


def test_overall_of_an_undefined_score_is_none() -> None:
    assert metrics.overall([classification(2), similarity()], {"c": {"accuracy": 0.5}, "s": {}}) is None
    assert metrics.overall([], {}) is None


def test_rounding_keeps_five_digits_and_valid_json() -> None:
    value = metrics.rounded({"a": {"b": 0.123456789, "c": -0.000001}, "rows": 3, "status": "x", "d": np.float64(1)})
    assert json.dumps(value) == '{"a": {"b": 0.12346, "c": 0.0}, "rows": 3, "status": "x", "d": 1.0}'
