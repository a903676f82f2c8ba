"""Invalid bodies: S02."""

from __future__ import annotations

import pytest
import requests

from tests.deploy.serve.conftest import error
from tests.support.serve_process import Service
from yourbert.deploy.serve.limits import RequestError
from yourbert.deploy.serve.request_schema import PredictRequest, parse_body, strict_json

BODIES = {
    "[1": "", "": "", "null": "", '"x"': "", "[]": "", "{}": "texts", '{"texts": NaN}': "",
    '{"texts": [1e999]}': "texts.0",
    '{"task": "mood"}': "texts", '{"texts": []}': "texts", '{"task": 3, "texts": ["a"]}': "task",
    '{"task": "mood", "texts": ["a", 3]}': "texts.1", '{"task": "mood", "texts": "a"}': "texts",
    '{"task": "mood", "texts": [["a", "b"]]}': "texts.0", '{"task": "sim", "texts": ["a"]}': "texts.0",
    '{"task": "sim", "texts": [["a", "b", "c"]]}': "texts.0", '{"task": "mood", "texts": ["a", " "]}': "texts.1",
    '{"task": "mood", "texts": ["a"], "txets": 1}': "txets", '{"task": "mood", "task": "sim", "texts": ["a"]}': "task",
    '{"task": "mood", "texts": ["\\ud800"]}': "texts.0", "[" * 10_000: "", "1" * 5000: "", "\udcff": "",
}  # fmt: skip


@pytest.mark.parametrize("body", BODIES, ids=lambda body: ascii(body[:40]))
def test_s02_a_body_that_is_none(service: Service, body: str) -> None:
    data, headers = body.encode(errors="surrogateescape"), {"Content-Type": "application/json; charset=utf-8"}
    response = requests.post(service.url("predict"), data=data, headers=headers, timeout=60)
    assert error(response, 400, "S02")["field"] == BODIES[body]
    assert service.get("health").ok


def test_s02_a_near_name_is_named() -> None:
    with pytest.raises(RequestError, match="did you mean 'texts'"):
        parse_body(PredictRequest, b'{"texts": ["a"], "text": ["a"]}')
    assert strict_json(b'{"a": [1, "b"]}') == {"a": [1, "b"]}
