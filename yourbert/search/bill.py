"""What a search cost, and what each of its experiments scored, from the commits that they left."""

from __future__ import annotations

import json
from collections.abc import Iterable

from yourbert.cluster.repository import experiment_ref, git
from yourbert.cost import Cost

COSTS = "metrics/cost/"


def costs(start: str, names: Iterable[str]) -> dict[str, Cost]:
    """Experiment -> what its trainings cost; a model that it took over from the starting commit cost nothing."""
    before = _files(start)
    return {name: _sum(_files(experiment_ref(start, name)), before) for name in names}


def _files(commit: str) -> dict[str, str]:
    """Path -> blob of the costs in a commit."""
    lines = git("ls-tree", "-r", commit, COSTS).decode().splitlines()
    return {path: blob for _, _, blob, path in (line.split(maxsplit=3) for line in lines)}


def _sum(files: dict[str, str], before: dict[str, str]) -> Cost:
    changed = [blob for path, blob in sorted(files.items()) if before.get(path) != blob]
    return sum((Cost.from_json(json.loads(git("cat-file", "blob", blob))) for blob in changed), start=Cost())
