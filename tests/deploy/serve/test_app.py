"""`yourbert serve`: predictions equal those of `predict`; invalid requests and internal errors (S02, S03, S10)."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import requests
from fastapi.testclient import TestClient
from hypothesis import strategies as st

from benchmarks import serve as load
from tests.deploy.serve.conftest import error, mood
from tests.faults.test_fuzz import COUNTS, holds
from tests.support.predicting import TASKS, sentence
from tests.support.serve_process import Service, served
from yourbert.config.schema import Runtime
from yourbert.deploy.batch import batch_predict
from yourbert.deploy.serve.app import build_app
from yourbert.deploy.serve.limits import Limits

pytestmark = pytest.mark.integration

FP32 = Runtime(device="cpu", precision="fp32", num_threads=1, deterministic=False)
SECRET = "a secret that somebody typed"


def test_it_answers_as_predict_does(service: Service, folder: Path, tmp_path: Path) -> None:
    texts = [sentence(number) for number in range(50)]
    (tmp_path / "t.txt").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    ask: dict[str, Any] = {"task_name": "mood", "columns": (), "id_column": None, "runtime": FP32}
    batch_predict(folder, str(tmp_path / "t.txt"), out=tmp_path / "a.jsonl", **ask)
    expected = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()]
    found = service.ask("predict", mood(texts)).json()
    assert found["task"] == "mood" and len(found["model"]) == 12
    for one, other in zip(found["predictions"], expected, strict=True):
        assert one["prediction"] == other["prediction"]
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)
    assert any(a["truncated"] for a in found["predictions"]) and not all(a["truncated"] for a in found["predictions"])


def test_pairs_and_reasons(service: Service) -> None:
    pair = ["good film", "was very bad,"]
    similar = service.ask("predict", {"task": "sim", "texts": [pair, pair[::-1]]}).json()["predictions"]
    assert similar[0]["prediction"] == pytest.approx(similar[1]["prediction"], abs=1e-4)
    reason = service.ask("explain", {"task": "same", "text": pair}).json()["explanation"]
    assert (
        reason["prediction"]
        == service.ask("predict", {"task": "same", "texts": [pair]}).json()["predictions"][0]["prediction"]
    )
    assert {word["number"] for word in reason["words"]} == {0, 1}


def test_it_describes_itself(service: Service) -> None:
    assert service.get("health").json() == {"status": "alive"}
    assert service.get("ready").json()["stale"] == ""
    assert service.get("tasks").json()["tasks"]["mood"]["labels"] == list(TASKS["mood"].labels)
    description = service.get("openapi.json").json()
    body = description["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert [set(of_kind["properties"]) for of_kind in body["oneOf"]] == [{"task", "texts"}] * 2, "single texts, pairs"
    assert 'yourbert_requests_total{path="/health",status="200"}' in service.get("metrics").text


METHODS = st.sampled_from(["GET", "POST", "PUT", "HEAD", "OPTIONS", "X"])
PATHS = st.sampled_from(["/predict", "/explain", "/tasks", "/", "/metrics"]) | st.text(max_size=20).map("/{}".format)
NAMES = st.sampled_from([b"content-type", b"content-length", b"x-request-id", b"host", b"accept"]) | st.binary(
    max_size=9
)
TYPES = st.just((b"content-type", b"application/json"))
WORDS = st.sampled_from(["task", "texts", "text", "mood", "sim", "good film", ""]) | st.text(max_size=9)
VALUES = st.recursive(WORDS | st.none() | st.integers(), lambda x: st.lists(x, max_size=3) | st.dictionaries(WORDS, x))
BODIES_DRAWN = st.binary(max_size=99) | VALUES.map(json.dumps).map(str.encode)
REQUESTS = st.tuples(
    METHODS, PATHS, st.lists(TYPES | st.tuples(NAMES, st.binary(max_size=30)), max_size=4), BODIES_DRAWN
)


async def status(app: Any, method: str, path: str, headers: list[tuple[bytes, bytes]], body: bytes) -> int:
    """What the service answers to a request that no client library would send."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    parts = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Any:
        return next(parts, {"type": "http.disconnect"})

    scope = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": b""}
    await app({**scope, "raw_path": path.encode(errors="replace"), "root_path": "", "scheme": "http"}, receive, send)
    return int(sent[0]["status"])


@pytest.mark.parametrize(("length", "code"), [(b"\xb2", 400), (b"9" * 5000, 413), (b"-1", 400), (b"", 400)])
def test_s02_a_length_that_is_no_number(length: bytes, code: int) -> None:
    app = build_app(Echo(), Limits(), None)  # type: ignore[arg-type]
    headers = [(b"content-type", b"application/json"), (b"content-length", length)]
    assert asyncio.run(status(app, "POST", "/predict", headers, b"{")) == code


@pytest.mark.parametrize("count", COUNTS)
def test_s02_any_request(count: int) -> None:
    """It is answered, or refused as a client's mistake, and nothing else happens."""
    app = build_app(Echo(), Limits(), None)  # type: ignore[arg-type]
    with asyncio.Runner() as runner:
        seen: set[int] = set()
        holds(count, REQUESTS, lambda one: seen.add(runner.run(status(app, *one))))
    assert all(200 <= status < 500 for status in seen) and {200, 400, 404, 405, 415} <= seen


class Echo:
    """A model that returns its input."""

    id, tasks = "0" * 12, TASKS

    def predict(self, name: str, rows: Sequence[Sequence[str]]) -> list[Any]:
        return [{"prediction": row[0]} for row in rows]

    explain = predict

    def stale(self) -> str:
        return ""


def test_s03_what_does_not_exist(service: Service) -> None:
    assert (
        "did you mean 'mood'" in error(service.ask("predict", {"task": "moood", "texts": ["a"]}), 404, "S03")["message"]
    )
    assert error(service.ask("predict", {"texts": ["a"]}), 400, "S03")["field"] == "task"
    error(service.ask("predictions", {}), 404, "S03")
    assert error(service.get("predict"), 405, "S03") and service.get("predict").headers["Allow"] == "POST"
    error(requests.post(service.url("predict"), data="a=b", timeout=60), 415, "S03")
    error(requests.get(service.url("tasks"), headers={"Host": "elsewhere.example"}, timeout=60), 400, "S03")


def test_s10_errors_tell_nothing(folder: Path, tmp_path: Path) -> None:
    with served(folder, tmp_path / "log") as service:
        for body in ({"task": SECRET, "texts": ["a"]}, {"task": "mood", "texts": [["a", SECRET]]}, {SECRET: 1}):
            service.ask("predict", body)
        (service.connect()).sendall(f"GET {SECRET} / HTTP/9\r\n\r\n".encode())
        response = service.ask("explain", {"task": "mood", "text": "good"}, headers={"X-Request-ID": "mine-1"})
        assert response.headers["X-Request-ID"] == "mine-1"
        response = service.ask("explain", {"task": "mood", "text": "good"}, headers={"X-Request-ID": "a b\x7f"})
        assert response.headers["X-Request-ID"] != "a b\x7f"
        log = service.log.read_text()
    assert SECRET not in log and "Traceback" not in log and log.count("\n") == 1


def test_s10_a_failure_inside(folder: Path) -> None:
    """The client gets an id; the log has the id and the type of the error."""

    class Broken(Echo):
        def predict(self, name: str, rows: Sequence[Sequence[str]]) -> list[Any]:
            raise RuntimeError(f"{rows} of {folder}")

    with TestClient(build_app(Broken(), Limits(), None), raise_server_exceptions=False) as client:  # type: ignore[arg-type]
        response = client.post("/predict", json=mood([SECRET]))
        assert response.status_code == 500 and response.json()["error"]["code"] == "S10"
        assert SECRET not in response.text and str(folder) not in response.text


@pytest.mark.slow
def test_g15_64_clients(folder: Path, figure: Callable[[object], None]) -> None:
    """Ten minutes, or YOURBERT_LOAD_SECONDS, of good and odd requests."""
    with load.server(folder) as (port, process):
        found = load.load(port, process.pid, "mood", 64, float(os.environ.get("YOURBERT_LOAD_SECONDS", "600")))
    figure(found)
    assert load.good(found), found
