"""Which experiments a search runs: a grid or a random part of it, and of these the better part with a larger budget.

Successive halving (Jamieson and Talwalkar 2016, "Non-stochastic best arm identification"): all candidates run with the
smallest budget, the best of them with the next, and so on, so that most of the cost goes to few. A budget is a
parameter with growing values, for instance `epochs=1,3`.

Place in the flow: grid -> rungs -> DVC's queue or a cluster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from yourbert.core.seeding import rng_for
from yourbert.experiments.search.grid import Experiment, combinations, expand


@dataclass(frozen=True)
class Space:
    """What is searched. settings: `key=value,value` each; drawn: how many combinations, 0 for all of them.

    budget: `key=value,value`, smallest first, "" for one rung. reduction_factor: eta; 1/eta of a rung is promoted.
    """

    name: str
    settings: tuple[str, ...]
    targets: tuple[str, ...]
    cpus: int
    drawn: int = 0
    seed: int = 0
    budget: str = ""
    reduction_factor: int = 3

    def budgets(self) -> list[str]:
        """The override of each rung; [""] where there is but one. Raises UserError (P18)."""
        if not self.budget:
            return [""]
        return [override.lstrip("+") for (override,) in combinations([self.budget], "--budget")]

    def keys(self) -> list[str]:
        """What the settings and the budget vary."""
        return [setting.partition("=")[0].lstrip("+~") for setting in (*self.settings, *self.budgets()) if setting]

    def first(self) -> list[tuple[str, ...]]:
        """The settings of each candidate, in order: all combinations, or as many of them as are drawn."""
        # The names are not needed yet, only what each combination sets.
        combinations = [e.settings for e in expand(self.name, self.settings, self.targets, self.cpus)]
        if 0 < self.drawn < len(combinations):
            chosen = rng_for(self.seed, "search").choice(len(combinations), self.drawn, replace=False)
            return [combinations[index] for index in np.sort(chosen)]
        return combinations

    def experiment(self, settings: Sequence[str], budget: str) -> Experiment:
        """The experiment of a candidate on a rung."""
        asked = [*settings, budget] if budget else [*settings]
        (one,) = expand(self.name, asked, self.targets, self.cpus)
        return one

    def promoted(self, scores: Mapping[tuple[str, ...], float]) -> list[tuple[str, ...]]:
        """The candidates that go on, best first: 1/`reduction_factor` of those that have a score, at least one."""
        best = sorted(scores, key=lambda settings: -scores[settings])
        return best[: max(1, round(len(best) / self.reduction_factor))]
