"""What a search tried, and what its experiments cost, from the commits that they left."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from yourbert.core.cost import Cost
from yourbert.experiments.git import experiment_ref, files_in, git

COSTS = "metrics/cost/"


@dataclass(frozen=True)
class Try:
    """One experiment of a search. rung: counted from 1. settings: what it varies. score: None where it failed."""

    rung: int
    budget: str
    name: str
    settings: str
    score: float | None
    cost: Cost


def costs(start: str, names: Iterable[str]) -> dict[str, Cost]:
    """Experiment -> what its trainings cost; a model that it took over from the starting commit cost nothing."""
    before = files_in(start, COSTS)
    return {name: _sum(files_in(experiment_ref(start, name), COSTS), before) for name in names}


def _sum(files: dict[str, str], before: dict[str, str]) -> Cost:
    changed = [blob for path, blob in sorted(files.items()) if before.get(path) != blob]
    return sum((Cost.from_json(json.loads(git("cat-file", "blob", blob))) for blob in changed), start=Cost())
