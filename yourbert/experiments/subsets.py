"""Every subset of tasks as a mixture of its own: which tasks serve each other is then a question the report answers.

DVC expands a stage only over what stands in params.yaml, so the mixtures are written there, once, as a person would.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from yourbert.config.params import PARAMS_FILE, add_to, read_params
from yourbert.config.schema import Params
from yourbert.core.errors import fail, nearest

BY_TASK = ("loss_weights", "task_pooling")  # the keys of a mixture that speak of single tasks


def add_subsets(tasks: Sequence[str], like: str | None, path: Path = PARAMS_FILE) -> tuple[list[str], list[str]]:
    """Adds a mixture for every two or more of `tasks` to params.yaml; the names that are new, and those there before.

    tasks: none for all. like: the mixture whose settings they take, None for the first. A subset that some mixture
    has already gets no second one. Raises UserError (P05) for names that params.yaml does not know; the file stays
    as it is unless every mixture is valid.
    """
    params = read_params(path)
    pattern = _pattern(params, like)
    chosen = list(tasks) or list(params.tasks)
    for task in chosen:
        if task not in params.tasks:
            what = f"no task '{task}' (there are {', '.join(params.tasks)}){nearest(task, params.tasks)}"
            fail("P05", what, where=str(path), fix="correct the word, or add the task")
    there = {frozenset(mixture.tasks): name for name, mixture in params.mixtures.items()}
    subsets = [some for size in range(2, len(chosen) + 1) for some in combinations(dict.fromkeys(chosen), size)]
    taken = {*params.tasks, *params.multitask}
    new = {_name(some, taken): some for some in subsets if frozenset(some) not in there}
    add_to(path, "mixtures", {name: {"tasks": list(some), **_for(pattern, some)} for name, some in new.items()})
    return list(new), [there[frozenset(some)] for some in subsets if frozenset(some) in there]


def _name(tasks: Sequence[str], taken: Collection[str]) -> str:
    """A task or chain may have the tasks' own name already."""
    name = "-".join(tasks)
    return f"{name}-mixture" if name in taken else name


def _pattern(params: Params, like: str | None) -> dict[str, Any]:
    if like is not None and like not in params.mixtures:
        known = ", ".join(params.mixtures) or "none"
        what = f"no mixture '{like}' (there are {known}){nearest(like, params.mixtures)}"
        fail("P05", what, where="--like", fix="name one of these")
    name = like or next(iter(params.mixtures), None)
    if name is None:
        return {"sampling": "annealed", "lr": None, "batch_size": None, "epochs": None}
    return params.mixtures[name].model_dump(exclude_unset=True)


def _for(pattern: dict[str, Any], tasks: Sequence[str]) -> dict[str, Any]:
    """The pattern's settings as far as they speak of these tasks."""
    own = {key: value for key, value in pattern.items() if key not in ("tasks", *BY_TASK)}
    blocks = {key: {task: of for task, of in pattern.get(key, {}).items() if task in tasks} for key in BY_TASK}
    return own | {key: block for key, block in blocks.items() if block}
