"""Reads a YAML file by the YAML 1.2 core schema, with the line and column of every key.

PyYAML follows YAML 1.1, in which `1e-05` is text, `no` is false and `12:30` is a number; `dvc exp run -S lr=1e-5`
writes `1e-05`. So this module parses scalars itself. A number keeps its spelling, since it may be a label. Tags,
aliases, duplicate keys, deep nesting, and keys that DVC would not read as text are refused.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from yourbert.core.errors import fail, quoted

MAX_BYTES, MAX_DEPTH, MAX_DIGITS = 4 << 20, 20, 40
# Keys that the YAML parser of DVC reads as numbers, dates or null.
NO_TEXT = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "timestamp", "null"))

Value = None | bool | int | float | str | list["Value"] | dict[str, "Value"]
Positions = dict[str, tuple[int, int]]

NULL = re.compile(r"null|Null|NULL|~|")
BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
INT = re.compile(r"[-+]?[0-9]+")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


class SpelledInt(int):
    """An integer whose spelling differs from Python's: `007`, `+1`. text: the spelling."""

    text = ""


class SpelledFloat(float):
    """A number whose spelling differs from Python's: `1e5`, `1.50`. text: the spelling."""

    text = ""


def read_yaml(path: Path) -> tuple[dict[str, Value], Positions]:
    """The mapping in a YAML file, and `dotted.key -> (line, column)`, both counted from 1.

    Raises UserError: P11 (the file is missing or not YAML, or nested too deeply), P10 (a duplicate key), P14 (a tag or
    an alias), P20 (a key that is not text for DVC).
    """
    try:
        text = path.read_text(encoding="utf-8")
        if len(text) > MAX_BYTES:
            fail(
                "P11", f"the file has more than {MAX_BYTES} characters", where=str(path), fix="remove what is not used"
            )
        _check_events(text, path)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except FileNotFoundError:
        fail("P11", "the file is missing", where=str(path), fix="restore it with `git checkout params.yaml`")
    except UnicodeDecodeError:
        fail("P11", "the file is not UTF-8 text", where=str(path), fix="save it as UTF-8")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        fail("P11", f"not valid YAML: {error.problem}", where=where, fix="check indentation (spaces, no tabs)")
    except yaml.YAMLError as error:
        fail("P11", f"not valid YAML: {error}", where=str(path))
    if not isinstance(root, yaml.MappingNode):
        fail("P11", "expected `key: value` lines at the top", where=f"{path}:1:1")
    positions: Positions = {}
    values = _mapping(root, path, "", positions)
    return values, positions


def _check_events(text: str, path: Path) -> None:
    """Refuses aliases and deep nesting before a node is built, which would take memory or the stack."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            fail("P14", "aliases (*name) are not allowed", where=_where(event, path), fix="write the values out")
        if depth > MAX_DEPTH:
            what = f"nested more than {MAX_DEPTH} deep"
            fail("P11", what, where=_where(event, path), fix="remove brackets or indentation")


def _where(event: yaml.Event, path: Path) -> str:
    mark = event.start_mark
    return f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)


def _value(node: yaml.Node, path: Path, prefix: str, positions: Positions) -> Value:
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, prefix, positions)
    if isinstance(node, yaml.SequenceNode):
        _refuse_tag(node, path)
        for index, item in enumerate(node.value):
            positions[f"{prefix}{index}"] = (item.start_mark.line + 1, item.start_mark.column + 1)
        return [_value(item, path, f"{prefix}{index}.", positions) for index, item in enumerate(node.value)]
    assert isinstance(node, yaml.ScalarNode)
    _refuse_tag(node, path)
    return node.value if node.style in ("'", '"', "|", ">") else parse_scalar(node.value)


def _mapping(node: yaml.MappingNode, path: Path, prefix: str, positions: Positions) -> dict[str, Value]:
    _refuse_tag(node, path)
    values: dict[str, Value] = {}
    for key_node, value_node in node.value:
        key = str(key_node.value)
        position = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
        if key_node.style is None and (key_node.tag in NO_TEXT or not isinstance(parse_scalar(key), str)):
            what = f"DVC does not read the key {quoted(key)} as text"
            fail("P20", what, where=f"{path}:{position[0]}:{position[1]}", fix=f"write it in quotes: '{key}'")
        if key in values:
            first = positions[prefix + key][0]
            what = f"duplicate key '{prefix}{key}', first defined on line {first}"
            fail("P10", what, where=f"{path}:{position[0]}:{position[1]}", fix="delete one of the two")
        positions[prefix + key] = position
        values[key] = _value(value_node, path, f"{prefix}{key}.", positions)
    return values


def _refuse_tag(node: yaml.Node, path: Path) -> None:
    if not node.tag.startswith("tag:yaml.org,2002:") or "python" in node.tag:
        mark = node.start_mark
        fail("P14", f"the tag {node.tag} is not allowed", where=f"{path}:{mark.line + 1}:{mark.column + 1}")


def _spelled(number: SpelledInt | SpelledFloat, text: str) -> Value:
    number.text = text
    return number


def parse_scalar(text: str) -> Value:
    """The value of a plain scalar in the YAML 1.2 core schema."""
    if NULL.fullmatch(text):
        return None
    if BOOL.fullmatch(text):
        return text.lower() == "true"
    if INT.fullmatch(text):
        # A longer integer is too large for any key, also without its last digits.
        number = SpelledInt(text[:MAX_DIGITS])
        return int(number) if str(int(number)) == text else _spelled(number, text)
    if FLOAT.fullmatch(text):
        return float(text) if str(float(text)) == text else _spelled(SpelledFloat(text), text)
    if INFINITE.fullmatch(text):
        return float(text.replace(".", "", 1))
    return text
