"""Reads params.yaml into frozen, typed values and names every problem at once; adds entries to it.

What the keys mean is documented in `yourbert/config/schema.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from yourbert.config.schema import Chain, Mixture, Params
from yourbert.config.yaml_file import Places, read_yaml, resolve
from yourbert.core.errors import Problem, UserError, cleaned, nearest, quoted

PARAMS_FILE = Path("params.yaml")
# Keys beside the names of tasks and models in the metrics files; no model may have such a name.
RESERVED = ("overall", "training", "comparisons", "own")
NONE = {"mixtures": "{}", "chains": "[]"}  # how params.yaml says that there are none
# Why keys of older versions are refused.
REMOVED = {
    "average": "averaging the weights over steps gained nothing",
    "soup": "averaging the weights of several models gained nothing",
    "whole_words": "masking whole words gained nothing",
}
# Parts of a pydantic error's location that are no keys: pydantic's for a wrong dict key, and the tags of `OwnLayers`.
KINDS = ("[key]", "[number]", "[word]")


def read_params(path: Path = PARAMS_FILE) -> Params:
    """Reads and checks params.yaml. Raises one UserError that names every problem with its line and column."""
    values, places = read_yaml(path)
    try:
        params = Params.model_validate(values)
    except ValidationError as error:
        raise UserError([_problem(e, path, places) for e in error.errors(include_url=False)]) from None
    problems = [Problem("P05", what, where=_where(path, places, key)) for key, what in _contradictions(params)]
    if problems:
        raise UserError(problems)
    return params


def add_to(path: Path, block: str, entries: dict[str, Any]) -> None:
    """Adds entries to a top-level block of params.yaml; comments stay, and the form is the one that DVC writes.

    Raises UserError as `read_params` does, and then leaves the file as it was.
    """
    from dvc.utils.serialize import modify_yaml

    before = path.read_bytes()
    try:
        with modify_yaml(path) as values:
            values[block] = values.get(block) or {}
            values[block].update(entries)
        read_params(path)
    except BaseException:
        path.write_bytes(before)
        raise


def _contradictions(params: Params) -> list[tuple[str, str]]:
    """Contradictions between keys, each as (dotted key, what is wrong)."""
    found = [(f"tasks.{name}.data", what) for name, task in params.tasks.items() for what in task.data.problems()]
    if len(set(params.seeds)) < len(params.seeds):
        found.append(("seeds", "a seed stands there twice"))
    for run, place in places_of(params):
        if run in RESERVED:
            found.append((place, f"'{run}' has a meaning of its own in the metrics"))
    for place, name, mixture in [
        *((f"mixtures.{name}", name, mixture) for name, mixture in params.mixtures.items()),
        *((f"chains.{index}", chain.name, chain) for index, chain in enumerate(params.chains)),
    ]:
        found += [(f"{place}{key}", what) for key, what in _contradictions_of(name, mixture, params)]
    return found


def _contradictions_of(name: str, mixture: Mixture, params: Params) -> Iterator[tuple[str, str]]:
    """The contradictions of one mixture or chain; keys are relative to its block."""
    if name in params.tasks:
        yield "", f"'{name}' is also the name of a task"
    if len(set(mixture.tasks)) < len(mixture.tasks):
        yield ".tasks", "a task stands there twice"
    for task in mixture.tasks:
        if task not in params.tasks:
            yield ".tasks", f"no task '{task}' (there are {', '.join(params.tasks)}){nearest(task, params.tasks)}"
    for key in ("weights", "poolings", "own_layers"):
        for task in getattr(mixture, key):
            if task not in mixture.tasks:
                yield f".{key}", f"'{task}' is not one of the mixture's tasks{nearest(task, mixture.tasks)}"
    if mixture.own_layers:
        yield from _contradictions_of_own_layers(name, mixture, params)
    if mixture.select not in ("mean", *mixture.learns):
        known = ["mean", *mixture.learns]
        what = f"'{mixture.select}' is not one of {', '.join(known)}{nearest(mixture.select, known)}"
        yield ".select", what
    if isinstance(mixture, Chain):
        names = [run for run, _ in places_of(params)]
        if names.count(name) > 1 and name not in params.tasks:
            yield ".name", f"'{name}' is also the name of another mixture or chain"
        if mixture.init not in names:
            yield ".init", f"no model '{mixture.init}' (there are {', '.join(names)}){nearest(mixture.init, names)}"
        elif mixture.init in names[names.index(name) :]:
            yield ".init", f"'{mixture.init}' is not above '{name}', as what a chain goes on from must be"


def _contradictions_of_own_layers(name: str, mixture: Mixture, params: Params) -> Iterator[tuple[str, str]]:
    """The contradictions of own layers: frozen tasks need an earlier model that learned them with the same pooling."""
    if params.training(name).tuning == "head":
        yield ".own_layers", "`tuning: head` moves no layer of the encoder"
    if not isinstance(mixture, Chain):
        yield ".own_layers", "the other layers stay as they come, so only a chain has such"
        return
    if mixture.init not in {**params.tasks, **params.shared}:
        return
    for task, number in params.own_layers(mixture.init).items():
        if mixture.own_layers.get(task, number) != number:
            what = f"'{task}' has {number} layers of its own in '{mixture.init}', so it must have {number} here"
            yield f".own_layers.{task}", what
    for task in mixture.tasks:
        if task in mixture.own_layers:
            continue
        if task not in params.mixture(mixture.init).tasks:
            yield ".tasks", f"'{task}' does not learn here, and '{mixture.init}' has not learnt it"
            continue
        here, there = (params.pooling_of(run, task) for run in (name, mixture.init))
        if here != there:
            yield ".poolings", f"'{task}' does not learn here, so it must read '{there}' as in '{mixture.init}'"


def places_of(params: Params) -> list[tuple[str, str]]:
    """Every model, with the dotted key of its block."""
    return [
        *((name, f"tasks.{name}") for name in params.tasks),
        *((name, f"mixtures.{name}") for name in params.mixtures),
        *((chain.name, f"chains.{index}") for index, chain in enumerate(params.chains)),
    ]


def _where(path: Path, places: Places, key: str) -> str:
    """The file, line and column of a key, or of the nearest block around it."""
    while key and key not in places:
        key = key.rpartition(".")[0]
    line, column = places.get(key, (1, 1))
    return f"{path}:{line}:{column}"


def _problem(error: Mapping[str, Any], path: Path, places: Places) -> Problem:
    """One line for a pydantic error, with the nearest right spelling for an unknown key."""
    key = ".".join(str(part) for part in error["loc"] if part not in KINDS)
    where = _where(path, places, key)
    match error["type"]:
        case "extra_forbidden":
            *block, word = error["loc"]
            if word in REMOVED:
                what = f"the key '{key}' was removed in 0.2.0: {REMOVED[word]}"
                return Problem("P01", what, where, fix="delete the line")
            return Problem("P01", f"unknown key '{key}'{nearest(word, _allowed_keys(block))}", where)
        case "missing":
            return Problem("P13", f"key '{key}' is missing", where, fix=f"add `{key.rpartition('.')[2]}:` with a value")
        case "float_type" | "int_type" if isinstance(error["input"], str):
            number = isinstance(resolve(error["input"]), int | float)
            fix = "remove the quotes" if number else "write a number"
            return Problem("P03", f"'{key}' is the text {quoted(error['input'])}, expected a number", where, fix)
        case "dict_type" | "list_type" if key in NONE:
            what = f"'{key}' is {_said(error['input'])}, expected models"
            return Problem("P04", what, where, fix=f"write `{key}: {NONE[key]}` for none")
        case "literal_error":
            expected = error["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
            hint = nearest(str(error["input"]), expected)
            return Problem(
                "P05", f"'{key}' is {_said(error['input'])}, expected one of {', '.join(expected)}{hint}", where
            )
    message = error["msg"][0].lower() + error["msg"][1:]
    return Problem("P04", f"'{key}' is {_said(error['input'])}: {message}", where)


def _said(value: object) -> str:
    """A value safe to show in a message; text is in quotes."""
    return quoted(value) if isinstance(value, str) else cleaned(repr(value))


def _allowed_keys(block: Sequence[int | str]) -> list[str]:
    """The keys that a block of params.yaml may hold, from the types along its path."""
    kind: Any = Params
    for part in block:
        kind = get_args(kind)[-1] if get_args(kind) else kind.model_fields[part].annotation
    return list(kind.model_fields)
