"""Reading YAML: scalars of YAML 1.2, and the position of each key."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from yourbert.config.yaml_file import parse_scalar, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [("no", "no"), ("12:30:45", "12:30:45"), ("017", 17), ("true", True), ("~", None), ("1_0", "1_0"), ("-3", -3)],
)
def test_scalars_follow_the_core_schema(text: str, value: object) -> None:
    assert parse_scalar(text) == value
    assert isinstance(parse_scalar(text), type(value))


def test_read_yaml_returns_the_position_of_each_key(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(io.StringIO("a: 1\nb:\n  c:\n  - x\n  - y\n").read())
    values, positions = read_yaml(path)
    assert values == {"a": 1, "b": {"c": ["x", "y"]}}
    assert positions["b.c"] == (3, 3)
    assert positions["b.c.1"] == (5, 5)
