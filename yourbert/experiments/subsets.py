"""Adds a mixture for every subset of tasks, so that the report shows which tasks gain from which others.

DVC expands a stage only over names in params.yaml, so the mixtures are written there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from yourbert.config.params import PARAMS_FILE, add_entries, read_params
from yourbert.config.schema import Params
from yourbert.core.errors import fail, nearest

BY_TASK = ("loss_weights", "task_pooling")  # the keys of a mixture that map task names


def add_mixtures(tasks: Sequence[str], like: str | None, path: Path = PARAMS_FILE) -> tuple[list[str], list[str]]:
    """Adds a mixture to params.yaml for every subset of two or more `tasks`; returns the new and the existing names.

    tasks: empty for all. like: the mixture whose settings are copied, None for the first. A subset that already has a
    mixture gets no second one. Raises UserError (P05) for an unknown name; params.yaml is unchanged after an error.
    """
    params = read_params(path)
    template = _template(params, like)
    selected = list(tasks) or list(params.tasks)
    for task in selected:
        if task not in params.tasks:
            what = f"no task '{task}' (there are {', '.join(params.tasks)}){nearest(task, params.tasks)}"
            fail("P05", what, where=str(path), fix="correct the name, or add the task")
    existing = {frozenset(mixture.tasks): name for name, mixture in params.mixtures.items()}
    sizes = range(2, len(selected) + 1)
    subsets = [subset for size in sizes for subset in combinations(dict.fromkeys(selected), size)]
    taken = {*params.tasks, *params.multitask}
    new = {_name(subset, taken): subset for subset in subsets if frozenset(subset) not in existing}
    blocks = {name: {"tasks": list(subset), **_settings_for(template, subset)} for name, subset in new.items()}
    add_entries(path, "mixtures", blocks)
    return list(new), [existing[frozenset(subset)] for subset in subsets if frozenset(subset) in existing]


def _name(tasks: Sequence[str], taken: Collection[str]) -> str:
    """The tasks' names joined; a task or a sequential model may have that name already."""
    name = "-".join(tasks)
    return f"{name}-mixture" if name in taken else name


def _template(params: Params, like: str | None) -> dict[str, Any]:
    if like is not None and like not in params.mixtures:
        known = ", ".join(params.mixtures) or "none"
        what = f"no mixture '{like}' (there are {known}){nearest(like, params.mixtures)}"
        fail("P05", what, where="--like", fix="name one of these")
    name = like or next(iter(params.mixtures), None)
    if name is None:
        return {"sampling": "annealed", "lr": None, "batch_size": None, "epochs": None}
    return params.mixtures[name].model_dump(exclude_unset=True)


def _settings_for(template: dict[str, Any], tasks: Sequence[str]) -> dict[str, Any]:
    """The template's settings, those per task reduced to these tasks."""
    common = {key: value for key, value in template.items() if key not in ("tasks", *BY_TASK)}
    blocks = {key: {task: value for task, value in template.get(key, {}).items() if task in tasks} for key in BY_TASK}
    return common | {key: block for key, block in blocks.items() if block}
