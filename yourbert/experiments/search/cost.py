"""The trials of a search, and the training cost recorded in their commits."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from yourbert.core.cost import Cost
from yourbert.experiments.git import experiment_ref, files_in, git

COSTS = "metrics/cost/"


@dataclass(frozen=True)
class Trial:
    """One experiment of a search. rung: from 1. settings: the values it sets. score: None if it failed."""

    rung: int
    budget: str
    name: str
    settings: str
    score: float | None
    cost: Cost


def costs(start: str, names: Iterable[str]) -> dict[str, Cost]:
    """Experiment -> its training cost; a model that is unchanged since the starting commit costs nothing."""
    before = files_in(start, COSTS)
    return {name: _sum(files_in(experiment_ref(start, name), COSTS), before) for name in names}


def _sum(files: dict[str, str], before: dict[str, str]) -> Cost:
    changed = [blob for path, blob in sorted(files.items()) if before.get(path) != blob]
    return sum((Cost.from_json(json.loads(git("cat-file", "blob", blob))) for blob in changed), start=Cost())
