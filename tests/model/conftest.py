"""A task of each kind, with and without a second text."""

from __future__ import annotations

import pytest

from yourbert.core.tasks import Kind, PairEncoding, Task


def task_of(kind: Kind, encoding: PairEncoding, pair: bool = True, name: str = "one") -> Task:
    labels = ("no", "so so", "yes") if kind == "classification" else ()
    return Task(
        name=name,
        kind=kind,
        labels=labels,
        low=0.0 if labels else -1.0,
        high=1.0 if labels else 5.0,
        pair=pair,
        encoding=encoding,
        metric="accuracy" if labels else "pearson",
        max_length=64,
        truncation_side="right",
    )


TASKS = [
    task_of("classification", "cross", pair=False, name="type"),
    task_of("classification", "cross", name="values"),
    task_of("classification", "bi", name="keys"),
    task_of("similarity", "cross", name="training"),
    task_of("similarity", "bi", name="forward"),
]


each_task = pytest.mark.parametrize("task", TASKS, ids=[f"{t.kind}-{t.encoding}-{t.pair}" for t in TASKS])
