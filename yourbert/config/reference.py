"""The reference of params.yaml, made from its types: docs/params.md, and a JSON schema for editors.

    python -m yourbert.config.reference

What a key means stands once, in the docstring of its block in `yourbert/config/schema.py`; what it may be comes from
its type, and what is shipped from params.yaml.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel
from tabulate import tabulate

from yourbert.config.params import PARAMS_FILE
from yourbert.config.schema import Chain, Evaluate, Mixture, Params, Pretrain, Report, Runtime, TaskData, Training
from yourbert.config.yaml_file import Value, read_yaml
from yourbert.core.storage import write_json, write_text

PAGE, SCHEMA = Path("docs/params.md"), Path("docs/params.schema.json")
# Where each block stands, and a place in params.yaml that shows it.
BLOCKS: tuple[tuple[str, type[BaseModel], str], ...] = (
    ("at the top, and under a task, mixture or chain for it alone", Training, ""),
    ("at the top: where to compute", Runtime, ""),
    ("`tasks.<name>.data`", TaskData, "tasks.sst.data"),
    ("`mixtures.<name>`", Mixture, "mixtures.pairs"),
    ("`chains`, a list", Chain, "chains.0"),
    ("`pretrain`", Pretrain, "pretrain"),
    ("`evaluate`", Evaluate, "evaluate"),
    ("`report`", Report, "report"),
)
TOP = {
    "model": "a hub id (`org/name`, `org/name@revision`), a local folder, or `random:<layers>x<width>` for tests",
    "corpus": "`bundled`, `cs224n`, or a folder with the files that `tasks` name",
    "seeds": "every model is trained once for each",
    "tasks": "a block for each task: `data`, and training keys that hold for it alone",
    "mixtures": "models that learn several tasks at once, by name",
    "chains": "models that go on from another model",
}


def meanings(block: type[BaseModel]) -> dict[str, str]:
    """What the docstring of a block says of each of its keys: `key: text` or `one, other: text`, side by side."""
    text = " ".join((block.__doc__ or "").split())
    keys = "|".join(sorted(map(re.escape, block.model_fields), key=len, reverse=True))
    parts = re.split(rf"(?:(?<=[.;] )|(?<=^))((?:{keys})(?:, (?:{keys}))*): ", text)
    found = {}
    for names, meaning in zip(parts[1::2], parts[2::2], strict=True):
        for name in names.split(", "):
            found[name] = meaning.rstrip(" .;")
    return found


def allowed(kind: Any) -> str:
    """What a type lets through, in words."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _bounded(allowed(inner[0]), inner[1:])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(allowed(one) for one in inner if one is not type(None))
    if origin is list:
        return f"list of {allowed(inner[0])}"
    if origin is dict:
        return f"{allowed(inner[0])}: {allowed(inner[1])}"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "a block"
    return {str: "text", int: "whole number", float: "number", bool: "`true`, `false`"}.get(kind, str(kind))


def _bounded(words: str, facts: tuple[Any, ...]) -> str:
    signs = {Ge: ("≥", "ge"), Gt: (">", "gt"), Le: ("≤", "le"), Lt: ("<", "lt")}
    flat = [fact for one in facts for fact in getattr(one, "metadata", [one])]
    bounds = [
        f"{sign} {getattr(fact, key)}" for fact in flat for kind, (sign, key) in signs.items() if type(fact) is kind
    ]
    bounds += [f"at least {fact.min_length}" for fact in flat if type(fact) is MinLen]
    return f"{words} {', '.join(bounds)}".strip()


def rows(block: type[BaseModel], shipped: Value) -> Iterator[list[str]]:
    """A line for each key of a block: its name, what it may be, what is shipped, what it means."""
    told = meanings(block)
    for name, field in block.model_fields.items():
        kind = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        value = shipped.get(name) if isinstance(shipped, dict) else None
        if value is None and not field.is_required():
            value = field.get_default(call_default_factory=True)
        yield [f"`{name}`", allowed(kind), _shown(value), told.get(name, "")]


def _shown(value: Any) -> str:
    text = "" if value is None or value in ({}, []) else str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text}`" if text and len(text) < 40 else ""


def page(shipped: dict[str, Value]) -> str:
    """The whole of docs/params.md."""
    blocks = [
        "# What params.yaml may say\n\n"
        "Made by `python -m yourbert.config.reference` from the types that read the file. "
        "An unknown key, a wrong type or an impossible value is refused with its line. "
        "[params.schema.json](params.schema.json) tells editors the same: put "
        "`# yaml-language-server: $schema=docs/params.schema.json` at the top of the file."
    ]
    top = [[f"`{name}`", _shown(shipped.get(name)), meaning] for name, meaning in TOP.items()]
    blocks += ["## The top", tabulate(top, ("key", "shipped", "meaning"), tablefmt="pipe", disable_numparse=True)]
    for where, block, place in BLOCKS:
        here: Value = shipped
        for key in filter(None, place.split(".")):
            here = here[int(key)] if isinstance(here, list) else here.get(key) if isinstance(here, dict) else None
        inherited = set(Mixture.model_fields) if block is Chain else set()
        lines = [line for line in rows(block, here) if line[0].strip("`") not in inherited]
        blocks += [f"## {where[0].upper()}{where[1:]}" if where[0] != "`" else f"## {where}"]
        blocks += ["And the keys of a mixture."] if inherited else []
        blocks.append(tabulate(lines, ("key", "may be", "shipped", "meaning"), tablefmt="pipe", disable_numparse=True))
    return "\n\n".join(blocks) + "\n"


def schema() -> dict[str, Any]:
    """A JSON schema of params.yaml; a task, mixture or chain may also hold any training key, or an empty one."""
    whole = Params.model_json_schema()
    training = Training.model_json_schema()["properties"]
    for name in ("TaskBlock", "Mixture", "Chain"):
        block = whole["$defs"][name]
        block["properties"] |= {key: {"anyOf": [facts, {"type": "null"}]} for key, facts in training.items()}
        block["additionalProperties"] = False
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **whole}


def main() -> None:
    write_text(PAGE, page(read_yaml(PARAMS_FILE)[0]))
    write_json(SCHEMA, schema())


if __name__ == "__main__":
    main()
