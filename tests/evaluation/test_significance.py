"""The paired tests: error rates, power, symmetry, and verdicts that always agree with the shown interval."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import permutation_test

from yourbert.core.tasks import METRICS, Metric
from yourbert.evaluation import significance
from yourbert.evaluation.metrics import Array, score_many
from yourbert.evaluation.significance import Comparison, Differences, compare, half_width, holm, mean_of, paired

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


def drawn(
    metric: Metric, first_SR: Array, second_SR: Array, labels_R: Array, seed: int = 0, n: int = 300
) -> Differences:
    draws = paired(
        metric,
        first_SR,
        second_SR,
        labels_R,
        classes=3,
        permutations=n,
        generator=np.random.default_rng(seed),
    )
    assert draws is not None
    return draws


def compared(metric: Metric, first_SR: Array, second_SR: Array, labels_R: Array, seed: int = 0) -> Comparison:
    return alone(drawn(metric, first_SR, second_SR, labels_R, seed))


def alone(differences: Differences, margin: float = 0.01) -> Comparison:
    """The comparison of a family of one, at 0.05."""
    return compare({"only": differences}, 0.05, margin)["only"]


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
    found = alone(drawn("accuracy", first_SR, second_SR, labels_R, n=4000))
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
    assert found.verdict == "better"


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize(("rows", "verdict"), [(298, "undecided"), (299, "equivalent")])
def test_a_model_equals_itself_on_enough_rows(metric: Metric, rows: int, verdict: str) -> None:
    """log(0.05) / log(0.99) = 298.1: on fewer rows a disagreement on 1 in 100 may well not show."""
    first_SR, _, labels_R = example(1, metric, rows=rows)
    found = compared(metric, first_SR, first_SR.copy(), labels_R)
    assert (found.difference, found.p) == (0.0, 1.0)
    assert found.identical and found.verdict == verdict
    assert found.rows_to_decide == (299 if verdict == "undecided" else None)


def test_an_undefined_score_has_no_comparison() -> None:
    first_SR, _, labels_R = example(1, "pearson")
    flat_SR = np.full_like(first_SR, 2.0)
    settings = {"classes": 0, "permutations": 9, "generator": np.random.default_rng(0)}
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
    assert both.observed == pytest.approx((one.observed + 0.5 * two.observed) / 2) == np.mean(both.by_seed)
    assert (both.rows, both.fewest) == (240, 120)
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


@st.composite
def families(draw: st.DrawFn) -> tuple[dict[int, Differences], float, float]:
    """Comparisons of any strength, whose swapped differences lie on a grid, so that ties are common."""
    family = {}
    for key in range(draw(st.integers(1, 6))):
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        rows = draw(st.integers(20, 2000))
        swapped_P = np.round(rng.normal(scale=draw(st.floats(0, 0.05)), size=draw(st.integers(19, 400))), 3)
        swapped_P[rng.random(len(swapped_P)) < draw(st.sampled_from([0.0, 0.0, 0.01]))] = np.nan
        by_seed = tuple(np.round(rng.normal(scale=0.02, size=draw(st.integers(1, 4))), 3).tolist())
        observed = draw(st.sampled_from([0.0, float(np.mean(by_seed)), round(draw(st.floats(-0.2, 0.2)), 3)]))
        family[key] = Differences(
            observed=observed, swapped_P=swapped_P, by_seed=by_seed, rows=rows, fewest=rows, identical=False
        )
    return family, draw(st.floats(0.01, 0.2)), draw(st.sampled_from([0.005, 0.01, 0.05]))


@given(families())
def test_verdict_interval_and_p_never_disagree(made: tuple[dict[int, Differences], float, float]) -> None:
    family, alpha, margin = made
    for key, found in compare(family, alpha, margin).items():
        zero_outside = not found.low <= 0 <= found.high
        inside = -margin < found.low and found.high < margin
        assert (found.verdict in ("better", "worse")) == zero_outside == (found.p_holm <= alpha)
        assert found.verdict != "better" or found.low > 0
        assert found.verdict != "worse" or found.high < 0
        assert found.verdict != "equivalent" or inside
        enough = family[key].fewest >= np.log(found.level) / np.log(1 - margin)
        assert (found.verdict == "equivalent") == (inside and enough and not zero_outside)
        if np.isfinite(half_width(family[key].swapped_P, found.level)):
            assert inside == (found.p_equivalence <= found.level / 2)
        assert alpha / len(family) - 1e-12 <= found.level <= alpha
        needs = (found.rows_to_decide, found.seeds_to_decide)
        assert needs == (None, None) or (found.verdict == "undecided" and min(n for n in needs if n) > 1)


def test_levels_are_those_of_holms_steps() -> None:
    """Of three, the first is significant at 0.05 / 3; the second is not at 0.05 / 2, so the third is not tried."""
    made = {
        name: Differences(
            observed=observed, swapped_P=np.arange(1, 1000) / 1000, by_seed=(observed,), rows=500, fewest=500,
            identical=False,
        )
        for name, observed in {"third": 0.965, "first": 0.995, "second": 0.97}.items()
    }  # fmt: skip
    found = compare(made, 0.05, 0.01)
    assert [found[name].level for name in ("first", "second", "third")] == pytest.approx([0.05 / 3, 0.025, 0.025])
    assert [found[name].verdict for name in ("first", "second", "third")] == ["better", "undecided", "undecided"]


def test_too_few_swaps_decide_nothing() -> None:
    first_SR, second_SR, labels_R = example(9, "accuracy", rows=5000)
    found = alone(drawn("accuracy", first_SR, second_SR, labels_R, n=10))
    assert found.verdict == "undecided" and found.low <= -0.9 < 0.9 <= found.high and found.rows_to_decide is None


def test_what_would_decide_it_does() -> None:
    """A fifth more rows than that, with the same difference, are enough."""
    first_SR, second_SR, labels_R = example(11, "accuracy", seeds=1, rows=200)
    found = alone(drawn("accuracy", first_SR, second_SR, labels_R, n=2000))
    assert found.verdict == "undecided" and found.rows_to_decide is not None
    times = 1 + round(1.2 * found.rows_to_decide / 200)
    more = [np.tile(x, times) for x in (first_SR, second_SR)]
    assert alone(drawn("accuracy", *more, np.tile(labels_R, times), n=2000)).verdict != "undecided"


def test_seeds_are_asked_for_where_they_vary_most() -> None:
    swapped_P = np.random.default_rng(0).normal(scale=0.002, size=999)
    made = {"by_seed": (0.05, -0.045, 0.006, -0.005), "rows": 5000, "fewest": 5000, "identical": False}
    found = alone(Differences(observed=0.0015, swapped_P=swapped_P, **made), margin=0.003)  # type: ignore[arg-type]
    assert found.verdict == "undecided" and found.rows_to_decide is None and (found.seeds_to_decide or 0) > 4


def simulated(rng: np.random.Generator, metric: Metric, gap: float, rows: int) -> Differences:
    """Two models whose true scores differ by `gap`: an accuracy of 0.8, or a correlation of 0.8."""
    if metric == "accuracy":
        labels_R = np.zeros(rows, dtype=int)
        both_R = rng.random(rows)  # how hard a row is for both; they disagree on a tenth of the rows, and on `gap`
        luck_R = rng.random(rows)
        second_R = np.where((both_R < 0.75) | (both_R > 0.85) & (luck_R < 0.05 / 0.15), 0, 1)
        first_R = np.where((both_R < 0.75) | (both_R > 0.85) & (luck_R > 1 - 0.05 / 0.15), 0, 1)
        first_R = np.where((both_R > 0.75) & (both_R < 0.75 + gap), 0, first_R)
        return drawn(metric, first_R[None], second_R[None], labels_R, seed=int(rng.integers(2**32)), n=199)
    labels_R, shared_R = rng.normal(size=(2, rows))
    scores = []
    for r in (0.8 + gap, 0.8):
        noise_R = 0.9**0.5 * shared_R + 0.1**0.5 * rng.normal(size=rows)
        scores.append((r * labels_R + (1 - r * r) ** 0.5 * noise_R)[None])
    return drawn(metric, *scores, labels_R, seed=int(rng.integers(2**32)), n=199)


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["accuracy", "pearson"])
@pytest.mark.parametrize(
    ("gap", "rows", "margin", "verdict", "least", "most"),
    [
        (0.0, 400, 0.02, ("better", "worse"), 0.0, 0.05),  # type I error of the test of difference
        (0.02, 1500, 0.02, ("equivalent",), 0.0, 0.025),  # type I error of the test of equivalence, at the margin
        (0.0, 20_000, 0.02, ("equivalent",), 0.9, 1.0),  # power of the test of equivalence
        (0.06, 3000, 0.01, ("better",), 0.95, 1.0),  # power of the test of difference
        (-0.06, 3000, 0.01, ("worse",), 0.95, 1.0),
        (0.01, 300, 0.01, ("undecided",), 0.7, 1.0),  # few rows and a small difference
    ],
)
def test_verdicts_have_their_nominal_rates(
    metric: Metric, gap: float, rows: int, margin: float, verdict: tuple[str, ...], least: float, most: float
) -> None:
    """1,000 simulations; a rate may exceed its bound by three standard errors."""
    rng = np.random.default_rng(29)
    if metric == "accuracy" and gap < 0:
        pytest.skip("the simulated accuracies only differ upwards")
    found = [alone(simulated(rng, metric, gap, rows), margin) for _ in range(1000)]
    rate = np.mean([one.verdict in verdict for one in found])
    error = 3 * (max(most * (1 - most), 0.0) / 1000) ** 0.5
    assert least <= rate <= most + error, rate
    covered = np.mean([one.low <= gap <= one.high for one in found])
    assert covered >= 0.95 - 3 * (0.05 * 0.95 / 1000) ** 0.5, covered


@pytest.mark.slow
def test_a_family_has_one_false_verdict_as_rarely_as_alpha() -> None:
    """Families of five equal pairs, 1,000 times."""
    rng = np.random.default_rng(30)
    wrong = 0
    for _ in range(1000):
        family = {number: simulated(rng, "accuracy", 0.0, 300) for number in range(5)}
        found = compare(family, 0.05, 0.01).values()
        wrong += any(one.verdict in ("better", "worse") for one in found)
    assert wrong / 1000 <= 0.05 + 3 * (0.05 * 0.95 / 1000) ** 0.5
