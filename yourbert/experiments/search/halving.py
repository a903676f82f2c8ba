"""Successive halving (Jamieson and Talwalkar 2016, "Non-stochastic best arm identification").

All candidates, a grid or a random sample of it, run with the smallest budget; the best run with the next, and so on, so
that most of the compute goes to few candidates. A budget is a parameter with increasing values, e.g. `epochs=1,3`.

Place in the flow: grid -> rungs -> DVC's queue or a cluster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from yourbert.core.seeding import rng_for
from yourbert.experiments.search.grid import Experiment, combinations, expand


@dataclass(frozen=True)
class SearchSpace:
    """settings: `key=value,value` each. num_samples: random combinations to try, 0 for all. seed: of the sample.

    name: prefix of the experiments' names. targets: stages to run. cpus: of one experiment.
    budget: `key=value,value`, smallest first, "" for one rung. reduction_factor: eta; 1/eta of a rung is promoted.
    """

    name: str
    settings: tuple[str, ...]
    targets: tuple[str, ...]
    cpus: int
    num_samples: int = 0
    seed: int = 0
    budget: str = ""
    reduction_factor: int = 3

    def budgets(self) -> list[str]:
        """The override of each rung; [""] without a budget. Raises UserError (P18)."""
        if not self.budget:
            return [""]
        return [override.lstrip("+") for (override,) in combinations([self.budget], "--budget")]

    def keys(self) -> list[str]:
        """The parameters that the settings and the budget set."""
        return [setting.partition("=")[0].lstrip("+~") for setting in (*self.settings, *self.budgets()) if setting]

    def candidates(self) -> list[tuple[str, ...]]:
        """The settings of each candidate of the first rung, in order: all combinations, or a random sample."""
        combinations = [e.settings for e in expand(self.name, self.settings, self.targets, self.cpus)]
        if 0 < self.num_samples < len(combinations):
            sample = rng_for(self.seed, "search").choice(len(combinations), self.num_samples, replace=False)
            return [combinations[index] for index in np.sort(sample)]
        return combinations

    def experiment(self, settings: Sequence[str], budget: str) -> Experiment:
        """The experiment of a candidate on a rung."""
        overrides = [*settings, budget] if budget else [*settings]
        (experiment,) = expand(self.name, overrides, self.targets, self.cpus)
        return experiment

    def promote(self, scores: Mapping[tuple[str, ...], float]) -> list[tuple[str, ...]]:
        """The candidates of the next rung, best first: 1/`reduction_factor` of those with a score, at least one."""
        best = sorted(scores, key=lambda settings: -scores[settings])
        return best[: max(1, round(len(best) / self.reduction_factor))]
