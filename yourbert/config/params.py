"""Reads params.yaml into frozen, typed values, reports all problems at once, and adds entries to the file.

`yourbert/config/schema.py` documents the keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from yourbert.config.schema import Mixture, Params, SequentialModel
from yourbert.config.yaml_file import Positions, parse_scalar, read_yaml
from yourbert.core.errors import Problem, UserError, cleaned, nearest, quoted

PARAMS_FILE = Path("params.yaml")
# Keys of the metrics files beside the names of models, so no model may have such a name.
RESERVED = ("overall", "training", "comparisons", "single_task")
EMPTY = {"mixtures": "{}", "sequential": "[]"}  # the value of each block of models if there are none
# Keys of older versions that were removed, and why.
REMOVED = {
    "average": "averaging the weights over steps gained nothing",
    "soup": "averaging the weights of several models gained nothing",
    "whole_words": "masking whole words gained nothing",
}
# Keys of older versions that were renamed, and the values that were renamed with the key.
RENAMED = {
    "tuning": "freeze_encoder",
    "clip": "max_grad_norm",
    "warmup": "warmup_ratio",
    "patience": "early_stopping_patience",
    "order": "curriculum",
    "consistency": "regularizer",
    "consistency_weight": "regularizer_weight",
    "threads": "num_threads",
    "ranks": "num_processes",
    "chains": "sequential",
    "init": "init_from",
    "own_layers": "task_specific_layers",
    "poolings": "task_pooling",
    "row_limit": "max_examples_per_task",
    "weights": "loss_weights",
    "select": "model_selection_metric",
    "truncate": "truncation_side",
    "on_bad_row": "on_invalid_row",
    "on_overlap": "on_leakage",
    "mask_rate": "mlm_probability",
    "text": "extra_text",
    "bootstrap": "bootstrap_samples",
    "explained": "num_explanations",
    "confidence": "confidence_level",
}
RENAMED_VALUES: dict[str, dict[str, str]] = {
    "tuning": {"full": "false", "head": "true"},
    "order": {"shuffled": "none", "short_first": "length", "easy_first": "difficulty"},
    "consistency": {"none": "none", "dropout": "r_drop", "adversarial": "smart"},
    "truncate": {"head": "right", "tail": "left", "head_tail": "middle"},
}
# Parts of the location in a pydantic error that are not keys: a wrong dict key, and the tags of `TaskSpecificLayers`.
NOT_KEYS = ("[key]", "[number]", "[word]")


def read_params(path: Path = PARAMS_FILE) -> Params:
    """Reads and checks params.yaml.

    Raises one UserError (P codes) that names every problem with its line and column.
    """
    values, positions = read_yaml(path)
    try:
        params = Params.model_validate(values)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        # A key with its old name is one problem, not two: its new name is not reported as missing as well.
        renamed = {(*e["loc"][:-1], RENAMED.get(str(e["loc"][-1]))) for e in errors if e["type"] == "extra_forbidden"}
        errors = [e for e in errors if e["type"] != "missing" or e["loc"] not in renamed]
        raise UserError([_problem(e, path, positions) for e in errors]) from None
    problems = [Problem("P05", what, where=_where(path, positions, key)) for key, what in _contradictions(params)]
    if problems:
        raise UserError(problems)
    return params


def add_entries(path: Path, block: str, entries: dict[str, Any]) -> None:
    """Adds entries to a top-level block of params.yaml, keeping comments and the format that DVC writes.

    Raises UserError as `read_params` does; the file is then unchanged.
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
    """The contradictions between keys, each as (dotted key, message)."""
    problems = [(f"tasks.{name}.data", what) for name, task in params.tasks.items() for what in task.data.problems()]
    if len(set(params.seeds)) < len(params.seeds):
        problems.append(("seeds", "duplicate seed"))
    names: dict[str, str] = {}
    for name, key in model_blocks(params):
        if (other := names.setdefault(name.lower(), name)) != name:
            problems.append((key, f"'{name}' and '{other}' differ only in case, and name folders"))
        if name in RESERVED:
            problems.append((key, f"'{name}' is a reserved name in the metrics files"))
    for block, name, mixture in [
        *((f"mixtures.{name}", name, mixture) for name, mixture in params.mixtures.items()),
        *((f"sequential.{index}", model.name, model) for index, model in enumerate(params.sequential)),
    ]:
        problems += [(f"{block}{key}", what) for key, what in _contradictions_of(name, mixture, params)]
    return problems


def _contradictions_of(name: str, mixture: Mixture, params: Params) -> Iterator[tuple[str, str]]:
    """The contradictions of one mixture or sequential model; keys are relative to its block."""
    if name in params.tasks:
        yield "", f"'{name}' is also the name of a task"
    if len(set(mixture.tasks)) < len(mixture.tasks):
        yield ".tasks", "duplicate task"
    for task in mixture.tasks:
        if task not in params.tasks:
            yield ".tasks", f"no task '{task}' (there are {', '.join(params.tasks)}){nearest(task, params.tasks)}"
    for key in ("loss_weights", "task_pooling", "task_specific_layers"):
        for task in getattr(mixture, key):
            if task not in mixture.tasks:
                yield f".{key}", f"'{task}' is not one of the mixture's tasks{nearest(task, mixture.tasks)}"
    if mixture.task_specific_layers:
        yield from _contradictions_of_layers(name, mixture, params)
    selection, known = mixture.model_selection_metric, ["mean", *mixture.trained_tasks]
    if selection not in known:
        yield ".model_selection_metric", f"'{selection}' is not one of {', '.join(known)}{nearest(selection, known)}"
    if isinstance(mixture, SequentialModel):
        names = [model for model, _ in model_blocks(params)]
        if names.count(name) > 1 and name not in params.tasks:
            yield ".name", f"'{name}' is also the name of another mixture or sequential model"
        init = mixture.init_from
        if init not in names:
            yield ".init_from", f"no model '{init}' (there are {', '.join(names)}){nearest(init, names)}"
        elif init in names[names.index(name) :]:
            yield ".init_from", f"`init_from` must name a model defined before '{name}', and '{init}' is not"


def _contradictions_of_layers(name: str, mixture: Mixture, params: Params) -> Iterator[tuple[str, str]]:
    """The contradictions of task-specific layers: a frozen task needs a head in `init_from`, with the same pooling."""
    if params.training(name).freeze_encoder:
        yield ".task_specific_layers", "has no effect with `freeze_encoder: true`, which trains no layer of the encoder"
    if not isinstance(mixture, SequentialModel):
        yield ".task_specific_layers", "only valid in a sequential model, because all other layers stay frozen"
        return
    init = mixture.init_from
    if init not in {**params.tasks, **params.multitask}:
        return
    for task, number in params.task_specific_layers(init).items():
        if mixture.task_specific_layers.get(task, number) != number:
            yield f".task_specific_layers.{task}", f"must be {number} for '{task}', as in '{init}'"
    for task in mixture.tasks:
        if task in mixture.task_specific_layers:
            continue
        if task not in params.mixture(init).tasks:
            yield ".tasks", f"task '{task}' is frozen here, but '{init}' has no trained head for it"
            continue
        here, there = (params.pooling_of(run, task) for run in (name, init))
        if here != there:
            yield ".task_pooling", f"task '{task}' is frozen here, so its pooling must be '{there}' as in '{init}'"


def model_blocks(params: Params) -> list[tuple[str, str]]:
    """The name of every model, with the dotted key of its block."""
    return [
        *((name, f"tasks.{name}") for name in params.tasks),
        *((name, f"mixtures.{name}") for name in params.mixtures),
        *((model.name, f"sequential.{index}") for index, model in enumerate(params.sequential)),
    ]


def _where(path: Path, positions: Positions, key: str) -> str:
    """The file, line and column of a key, or of the innermost block around it."""
    while key and key not in positions:
        key = key.rpartition(".")[0]
    line, column = positions.get(key, (1, 1))
    return f"{path}:{line}:{column}"


def _problem(error: Mapping[str, Any], path: Path, positions: Positions) -> Problem:
    """The one-line problem for a pydantic error; an unknown key gets its new or nearest spelling."""
    key = ".".join(str(part) for part in error["loc"] if part not in NOT_KEYS)
    where = _where(path, positions, key)
    match error["type"]:
        case "extra_forbidden":
            *block, last = error["loc"]
            allowed = _allowed_keys(block)
            if (new := RENAMED.get(last)) in allowed:
                value = RENAMED_VALUES.get(last, {}).get(str(error["input"]))
                fix = f"write `{new}: {value}`" if value else f"rename it to `{new}`"
                return Problem("P01", f"the key '{key}' was renamed in 0.2.0", where, fix)
            if last in REMOVED:
                what = f"the key '{key}' was removed in 0.2.0: {REMOVED[last]}"
                return Problem("P01", what, where, fix="delete the line")
            return Problem("P01", f"unknown key '{key}'{nearest(last, allowed)}", where)
        case "missing":
            return Problem("P13", f"key '{key}' is missing", where, fix=f"add `{key.rpartition('.')[2]}:` with a value")
        case "float_type" | "int_type" if isinstance(error["input"], str):
            number = isinstance(parse_scalar(error["input"]), int | float)
            fix = "remove the quotes" if number else "write a number"
            return Problem("P03", f"'{key}' is the text {quoted(error['input'])}, expected a number", where, fix)
        case "dict_type" | "list_type" if key in EMPTY:
            what = f"'{key}' is {_shown(error['input'])}, expected models"
            return Problem("P04", what, where, fix=f"write `{key}: {EMPTY[key]}` for none")
        case "literal_error":
            expected = error["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
            hint = nearest(str(error["input"]), expected)
            return Problem(
                "P05", f"'{key}' is {_shown(error['input'])}, expected one of {', '.join(expected)}{hint}", where
            )
    message = error["msg"][0].lower() + error["msg"][1:]
    return Problem("P04", f"'{key}' is {_shown(error['input'])}: {message}", where)


def _shown(value: object) -> str:
    """A value as a message shows it: escaped, and quoted if it is text."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return quoted(value) if isinstance(value, str) else cleaned(repr(value))


def _allowed_keys(block: Sequence[int | str]) -> list[str]:
    """The keys that a block of params.yaml may have, from the types along its path."""
    kind: Any = Params
    for part in block:
        kind = get_args(kind)[-1] if get_args(kind) else kind.model_fields[part].annotation
    return list(kind.model_fields)
