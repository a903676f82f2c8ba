"""A search of six combinations."""

from __future__ import annotations

from yourbert.experiments.search.halving import SearchSpace


def space(**changes: object) -> SearchSpace:
    defaults: dict[str, object] = {"name": "s", "settings": ("lr=1e-5,1e-4", "epochs=1,2,3"), "targets": (), "cpus": 1}
    return SearchSpace(**{**defaults, **changes})  # type: ignore[arg-type]
