"""The OpenAPI description is true: a valid body is answered, any other refused, each with a documented response."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from tests.deploy.serve.test_app import REQUESTS, Echo
from tests.faults.test_fuzz import COUNTS, holds
from tests.support import tiny
from tests.support.predicting import TASKS
from tests.support.serve_process import Service
from yourbert.core.tasks import Task
from yourbert.core.text import is_text
from yourbert.deploy.serve.app import build_app
from yourbert.deploy.serve.limits import Limits

pytestmark = pytest.mark.integration

SERVED = {
    "single texts and pairs": TASKS,
    "one task": {"mood": tiny.task()},
    "one task of pairs": {"sim": tiny.task("sim", "similarity")},
    "two tasks of single texts": {"mood": tiny.task(), "tone": tiny.task("tone")},
}
LIMITS = Limits(max_texts=3)


class Model(Echo):
    def __init__(self, tasks: dict[str, Task]) -> None:
        self.tasks = tasks

    def predict(self, name: str, rows: Any) -> list[Any]:
        return [{"prediction": "good", "probabilities": {"good": 0.6, "bad": 0.4}, "truncated": False} for _ in rows]

    def explain(self, name: str, rows: Any) -> list[Any]:
        word = {"text": "good", "number": 0, "weight": 0.5}
        facts = {"baseline_scores": [0.0], "completeness_gap": 0.0, "num_removed": 1, "score": 1.0, "words": [word]}
        return [{**facts, "prediction": "good", "score_without_top": 0.1, "score_without_random": 0.2} for _ in rows]


async def response(app: Any, method: str, path: str, headers: Any, body: bytes) -> tuple[int, bytes]:
    """Of a request that no client library would send; its client disconnects."""
    sent: list[Any] = []
    parts = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Any:
        return next(parts, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": b""}
    await app({**scope, "raw_path": path.encode(errors="replace"), "root_path": "", "scheme": "http"}, receive, send)
    return int(sent[0]["status"]), b"".join(message.get("body", b"") for message in sent[1:])


def validator(description: dict[str, Any], schema: dict[str, Any]) -> Any:
    return Draft202012Validator({**schema, "components": description["components"]})


def assert_documented(description: dict[str, Any], method: str, path: str, status: int, body: bytes) -> None:
    documented = description["paths"][path][method.lower()]["responses"]
    assert str(status) in documented, f"{method} {path} gave {status}"
    schema = documented[str(status)].get("content", {}).get("application/json", {}).get("schema")
    if schema and body:
        validator(description, schema).validate(json.loads(body))


GOOD = st.sampled_from(["good film", "bad", "\u00e9", "a\u0000"])
TEXTS = GOOD | GOOD | st.sampled_from(["", " ", "\u200b", "\u3000", "\ufeff", "\x85"]) | st.text(max_size=4)
ROWS = TEXTS | st.lists(TEXTS, min_size=2, max_size=2) | st.lists(TEXTS, max_size=3)


def bodies(tasks: dict[str, Task]) -> st.SearchStrategy[dict[str, Any]]:
    task = st.sampled_from([*tasks, *tasks, None, "moood"])
    fields = {"task": task, "texts": st.lists(ROWS, max_size=4) | ROWS, "text": ROWS, "more": st.integers()}
    one = st.sampled_from(["text", "texts"]).flatmap(lambda f: st.fixed_dictionaries({f: fields[f], "task": task}))
    return one | one | st.fixed_dictionaries({}, optional=fields)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("served", SERVED)
def test_a_body_is_answered_exactly_if_the_schema_allows_it(served: str, count: int) -> None:
    app = build_app(Model(SERVED[served]), LIMITS, None)  # type: ignore[arg-type]
    description = app.openapi()
    seen: set[tuple[str, int]] = set()
    with TestClient(app, raise_server_exceptions=False) as client:

        def check(drawn: tuple[str, dict[str, Any]]) -> None:
            path, body = drawn
            answer = client.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
            content = description["paths"][path]["post"]["requestBody"]["content"]
            allowed = validator(description, content["application/json"]["schema"]).is_valid(body)
            whole = is_text(json.dumps(body, ensure_ascii=False))
            assert (answer.status_code == 200) == (allowed and whole), (body, answer.text)
            assert_documented(description, "POST", path, answer.status_code, answer.content)
            seen.add((path, answer.status_code))

        holds(count // 2 + 1, st.tuples(st.sampled_from(["/predict", "/explain"]), bodies(SERVED[served])), check)
    assert {200, 400} <= {status for _, status in seen}


@pytest.mark.parametrize("count", COUNTS)
def test_every_response_is_documented(count: int) -> None:
    app = build_app(Model(TASKS), Limits(max_body_bytes=60), {"localhost"})  # type: ignore[arg-type]
    description = app.openapi()
    known = {(method.upper(), path) for path, of in description["paths"].items() for method in of}
    with asyncio.Runner() as runner:

        def check(request: Any) -> None:
            method, path, headers, body = request
            status, answer = runner.run(response(app, method, path, headers, body))
            if (method, path) in known:
                assert_documented(description, method, path, status, answer)

        holds(count // 2 + 1, REQUESTS, check)
    assert {("POST", "/predict"), ("GET", "/tasks"), ("HEAD", "/ready")} <= known


@pytest.mark.parametrize("path", ["", "page.js", "tasks", "health", "ready", "metrics"])
def test_head_is_answered_at_once_and_without_a_body(service: Service, path: str) -> None:
    import requests

    found = requests.head(service.url(path), timeout=5)
    full = service.get(path)
    assert found.status_code == full.status_code == 200 and not found.content
    assert found.headers["Content-Type"] == full.headers["Content-Type"]
