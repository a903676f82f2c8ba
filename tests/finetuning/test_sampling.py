"""Sampling rules: the steps of an epoch, the share of each task, and that the plan depends only on the seed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import tiny
from yourbert.config.schema import Mixture, Sampling
from yourbert.finetuning.sampling import (
    allocate_steps,
    capped_rows,
    exponent,
    plan_epoch,
    steps_of_epoch,
    with_min_steps,
)

RULES: tuple[Sampling, ...] = ("round_robin", "proportional", "temperature", "annealed")
SIZES = (800, 4800, 600)


def plan(
    rule: Sampling, epoch: int = 0, epochs: int = 3, seed: int = 1, sizes: tuple[int, ...] = SIZES
) -> Counter[int]:
    return Counter(t for step in plan_epoch(sizes, 16, rule, 2.0, epoch, epochs, seed) for t in step)


@pytest.mark.parametrize("rule", RULES)
def test_an_epoch_has_the_same_number_of_steps_under_every_rule(rule: Sampling) -> None:
    assert sum(plan(rule).values()) == sum(-(-rows // 16) for rows in SIZES)


def test_joint_takes_a_batch_of_every_task() -> None:
    steps = plan_epoch(SIZES, 16, "joint", 2.0, 0, 3, 1)
    assert set(steps) == {(0, 1, 2)}
    assert len(steps) * 16 * 3 == pytest.approx(sum(SIZES), rel=0.01)


def test_proportional_reads_every_row_once() -> None:
    assert plan("proportional") == {0: 50, 1: 300, 2: 38}


def test_round_robin_takes_turns() -> None:
    steps = plan_epoch(SIZES, 16, "round_robin", 2.0, 0, 3, 1)
    assert steps[:4] == [(0,), (1,), (2,), (0,)]


def test_annealing_goes_from_proportional_towards_equal() -> None:
    shares = [plan("annealed", epoch, 5)[1] for epoch in range(5)]
    assert shares[0] == plan("proportional")[1]
    assert shares == sorted(shares, reverse=True)
    assert exponent("annealed", 2.0, 4, 5) == pytest.approx(0.2)


def test_capped_rows_limit_the_share_of_a_large_task() -> None:
    assert capped_rows(SIZES, 0) == [*SIZES]
    assert capped_rows(SIZES, 1000) == [800, 1000, 600]
    taken = plan("proportional", sizes=tuple(capped_rows(SIZES, 1000)))
    assert taken == {0: 50, 1: 63, 2: 38}


def test_temperature_lies_between_proportional_and_equal() -> None:
    assert plan("round_robin")[1] < plan("temperature")[1] < plan("proportional")[1]


def test_one_task_is_the_same_under_every_rule() -> None:
    for rule in (*RULES, "joint"):
        assert plan_epoch((100,), 16, rule, 2.0, 0, 3, 5) == [(0,)] * 7


def test_the_plan_follows_from_the_seed_and_epoch() -> None:
    assert plan_epoch(SIZES, 16, "proportional", 2.0, 1, 3, 7) == plan_epoch(SIZES, 16, "proportional", 2.0, 1, 3, 7)
    assert plan_epoch(SIZES, 16, "proportional", 2.0, 1, 3, 7) != plan_epoch(SIZES, 16, "proportional", 2.0, 2, 3, 7)
    assert plan_epoch(SIZES, 16, "proportional", 2.0, 1, 3, 7) != plan_epoch(SIZES, 16, "proportional", 2.0, 1, 3, 8)


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=8), st.floats(0, 1), st.integers(1, 10**4))
def test_allocated_steps_add_up_and_keep_to_their_shares(rows: list[int], a: float, steps: int) -> None:
    counts = allocate_steps(rows, a, steps)
    assert counts.sum() == steps
    exact = steps * np.asarray(rows, dtype=float) ** a / (np.asarray(rows, dtype=float) ** a).sum()
    assert np.abs(counts - exact).max() <= 1 + 1e-6


@pytest.mark.parametrize("rule", [*RULES, "joint"])
def test_epochs_are_added_until_there_are_min_steps(rule: Sampling) -> None:
    mixture = Mixture(tasks=["a", "b", "c"], sampling=rule, max_examples_per_task=600)
    steps = steps_of_epoch(capped_rows(SIZES, 600), 16, rule)
    for asked, epochs in ((0, 2), (1, 2), (2 * steps, 2), (2 * steps + 1, 3), (4 * steps, 4)):
        settings = tiny.training(batch_size=16, epochs=2, min_steps=asked)
        assert with_min_steps(settings, mixture, SIZES) == settings.model_copy(update={"epochs": epochs})
