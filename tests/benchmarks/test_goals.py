"""A goal passes or falls short by the figures alone, and one that was not measured falls short."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.cases import NEEDS, SUITES
from benchmarks.goals import GOALS, Goal, Verdict, evaluate, exit_code, figure, table
from benchmarks.results import Results, Spread
from tests.benchmarks import made
from tests.benchmarks.made import FLOPS, PARITY, PEAK, RUN, SECONDS, STEP

SHARE = Goal(suite="cpu", cases=(STEP,), measure="share", target=0.5)
TIMES = Goal(suite="cpu", cases=(STEP,), measure="times", target=6.0, versus="hf-default")
LOGITS = Goal(suite="cpu", cases=(PARITY,), measure="difference", target=1e-5, versus="logits", variant="parity")
FLOORS = Goal(suite="cpu", cases=(STEP,), measure="floors", target=2.0)
ABSENT = Goal(suite="cpu", cases=("train base sst 16",), measure="share", target=0.1)


@pytest.fixture
def results() -> Results:
    return Results(made.facts())


def test_ratios_are_taken_within_a_round(results: Results) -> None:
    """The machine was four times as slow in one round; no ratio shows it."""
    assert figure(SHARE, results) == pytest.approx(FLOPS / SECONDS / PEAK)
    assert figure(TIMES, results) == pytest.approx(6.0)
    assert figure(replace(TIMES, variant="ours-fp32"), results) == pytest.approx(3.0)
    apart = results.milliseconds(STEP, "ours")
    assert apart is not None and apart.median == pytest.approx(110) and apart.high > 200


def test_a_floor_is_products_and_bytes(results: Results) -> None:
    floor = FLOPS / PEAK + 28 * 1000 / 1e6
    assert figure(FLOORS, results) == pytest.approx(SECONDS * 1.1 / (1.1 * FLOPS / PEAK + 28 * 1000 / 1e6))
    assert Verdict(FLOORS, SECONDS / floor).passed


@pytest.mark.parametrize(
    ("goal", "value", "passed"),
    [
        (SHARE, 0.5, True),
        (SHARE, 0.4999, False),
        (TIMES, 6.0, True),
        (TIMES, 5.99, False),
        (LOGITS, 1e-5, True),
        (LOGITS, 1.1e-5, False),
        (FLOORS, 2.0, True),
        (FLOORS, 2.01, False),
        (SHARE, None, False),
        (LOGITS, None, False),
    ],
)
def test_pass_or_short(goal: Goal, value: float | None, passed: bool) -> None:
    assert Verdict(goal, value).passed == passed
    assert exit_code([Verdict(goal, value)]) == (0 if passed else 1)


def test_one_that_falls_short_decides_the_exit_code(results: Results) -> None:
    reached = evaluate(results, [replace(SHARE, target=0.49), LOGITS])
    assert exit_code(reached) == 0
    assert exit_code([*reached, *evaluate(results, [replace(TIMES, target=6.1)])]) == 1


def test_what_was_not_measured_is_short_and_says_so(results: Results) -> None:
    verdicts = evaluate(results, [ABSENT, replace(TIMES, versus="hf-tuned", variant="nobody")])
    assert [row[2:] for row in table(verdicts)] == [["not measured", "short"]] * 2
    assert exit_code(verdicts) == 1


def test_either_of_two_cases_is_enough(results: Results) -> None:
    assert figure(replace(SHARE, cases=("train base sst 16", STEP)), results) == figure(SHARE, results)


def test_goals_of_another_suite_do_not_count(results: Results) -> None:
    assert evaluate(results, [replace(ABSENT, suite="gpu")]) == []


def test_every_goal_can_be_measured() -> None:
    for goal in GOALS:
        cases = {case.name: case for case in SUITES[goal.suite]}
        for name in goal.cases:
            assert goal.variant in cases[name].variants, name
            assert goal.measure != "times" or goal.versus in cases[name].variants, name


@pytest.mark.parametrize("suite", SUITES)
def test_every_case_has_a_name_of_its_own_and_known_variants(suite: str) -> None:
    cases = SUITES[suite]  # type: ignore[index]
    assert len({case.name for case in cases}) == len(cases)
    assert {variant for case in cases for variant in case.variants} <= NEEDS.keys()


def test_spread() -> None:
    assert Spread.of([]) is None
    assert Spread.of([3.0]) == Spread(3.0, 3.0, 3.0, 1)
    assert Spread.of([1.0, 100.0, 2.0]) == Spread(2.0, 1.5, 51.0, 3)


def test_runs_without_tokens_are_compared_by_rows(results: Results) -> None:
    times = results.times(RUN, "ours", "hf-pipeline")
    assert times is not None and times.median == pytest.approx(2.0)
