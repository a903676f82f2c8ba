"""The rungs of a search: candidates, budgets and promotion."""

from __future__ import annotations

import pytest

from tests.experiments.search.conftest import space
from yourbert.core.errors import UserError


def test_a_grid_has_every_combination_once_in_order() -> None:
    found = space().candidates()
    assert [settings[1] for settings in found] == ["epochs=1", "epochs=2", "epochs=3"] * 2
    assert len({settings[0] for settings in found}) == 2
    assert len(set(found)) == 6


def test_a_random_search_draws_some_of_them_by_its_seed() -> None:
    grid, drawn = space().candidates(), space(num_samples=3).candidates()
    assert len(drawn) == 3 and [c for c in grid if c in drawn] == drawn
    assert space(num_samples=3).candidates() == drawn and any(
        space(num_samples=3, seed=s).candidates() != drawn for s in range(1, 9)
    )
    assert space(num_samples=99).candidates() == grid


def test_a_rung_sets_the_budget_on_top_of_the_candidate() -> None:
    searched = space(settings=("lr=1e-5,1e-4",), budget="epochs=1,3")
    assert searched.budgets() == ["epochs=1", "epochs=3"] and space().budgets() == [""]
    candidate = searched.candidates()[0]
    small, large = (searched.experiment(candidate, budget) for budget in searched.budgets())
    assert small.name != large.name and "++epochs=1" in small.overrides and "++epochs=3" in large.overrides
    assert searched.experiment(candidate, "epochs=1") == small, "the same experiment has the same name"


@pytest.mark.parametrize("budget", ["epochs", "=1,2", "epochs=1,,2", "~epochs=1"])
def test_an_invalid_budget_is_refused(budget: str) -> None:
    with pytest.raises(UserError, match=r"P18.*--budget"):
        space(budget=budget).budgets()


def test_the_best_are_promoted_and_at_least_one() -> None:
    scores = {(f"lr={n}",): value for n, value in enumerate([0.1, 0.9, 0.5, 0.7, 0.3, 0.2])}
    assert space().promote(scores) == [("lr=1",), ("lr=3",)]
    assert space(reduction_factor=100).promote(scores) == [("lr=1",)]
    assert space(reduction_factor=1).promote(scores)[-1] == ("lr=0",)
