"""Every key of params.yaml is documented, and the generated reference and JSON schema are up to date."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from tests.support.closure import ROOT
from yourbert.config.reference import PAGE, SCHEMA, page, schema
from yourbert.config.schema import Block, Mixture, Params, SequentialModel, TaskBlock, Training
from yourbert.config.yaml_file import read_yaml


def models(kind: Any = Params) -> Iterator[type[Block]]:
    """Every model within a type."""
    if isinstance(kind, type) and issubclass(kind, Block):
        yield kind
        inner = [field.annotation for field in kind.model_fields.values()]
    else:
        inner = list(get_args(kind))
    for each in inner:
        yield from models(each)


@pytest.mark.parametrize("model", dict.fromkeys(models()), ids=lambda model: model.__name__)
def test_every_key_is_described(model: type[Block]) -> None:
    described = {key: field.description or "" for key, field in model.model_fields.items()}
    assert all(text.endswith(".") for text in described.values()), described


def test_the_page_and_the_schema_are_up_to_date() -> None:
    """`python -m yourbert.config.reference` writes them again."""
    values, _ = read_yaml(ROOT / "params.yaml")
    assert (ROOT / PAGE).read_text(encoding="utf-8") == page(values)
    assert json.loads((ROOT / SCHEMA).read_text(encoding="utf-8")) == schema()


def test_the_page_needs_no_mixture_and_no_sequential_model() -> None:
    values, _ = read_yaml(ROOT / "params.yaml")
    assert page(values | {"mixtures": {}, "sequential": []}) == page(values)


def test_the_json_schema_names_every_key_of_the_file() -> None:
    values, _ = read_yaml(ROOT / "params.yaml")
    blocks: Any = schema()["$defs"]
    assert set(values) == set(schema()["properties"])
    for model in (TaskBlock, Mixture, SequentialModel):
        block = blocks[model.__name__]
        assert block["additionalProperties"] is False
        assert set(block["properties"]) == set(model.model_fields) > set(Training.model_fields)
    rate = blocks["TaskBlock"]["properties"]["lr"]
    assert rate["anyOf"] == [{"exclusiveMinimum": 0, "maximum": 1, "type": "number"}, {"type": "null"}]
    assert rate["description"] == Training.model_fields["lr"].description
