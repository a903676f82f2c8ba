"""The reference of params.yaml says of every key what it means, and is the one that its types give now."""

from __future__ import annotations

import json

import pytest
from pydantic import BaseModel

from tests.support.closure import ROOT
from yourbert.config.params import read_params
from yourbert.config.reference import BLOCKS, PAGE, SCHEMA, meanings, page, schema
from yourbert.config.schema import Mixture
from yourbert.config.yaml_file import read_yaml


@pytest.mark.parametrize("block", [block for _, block, _ in BLOCKS], ids=lambda block: block.__name__)
def test_every_key_has_a_meaning(block: type[BaseModel]) -> None:
    own = set(block.model_fields) - (
        set(Mixture.model_fields) if issubclass(block, Mixture) and block is not Mixture else set()
    )
    assert own <= set(meanings(block)), own - set(meanings(block))
    assert all(len(meanings(block)[name]) > 5 for name in own)


def test_the_page_and_the_schema_are_those_of_the_types() -> None:
    """`python -m yourbert.config.reference` makes them anew."""
    values, _ = read_yaml(ROOT / "params.yaml")
    assert (ROOT / PAGE).read_text(encoding="utf-8") == page(values)
    assert json.loads((ROOT / SCHEMA).read_text(encoding="utf-8")) == schema()


def test_the_schema_knows_what_the_shipped_file_says() -> None:
    values, _ = read_yaml(ROOT / "params.yaml")
    told = schema()
    assert set(values) == set(told["properties"]) and told["additionalProperties"] is False
    assert set(values["tasks"]["sst"]) <= set(told["$defs"]["TaskBlock"]["properties"])  # type: ignore[index,call-overload,arg-type]
    assert read_params(ROOT / "params.yaml")
