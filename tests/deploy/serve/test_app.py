"""`yourbert serve`: the answers of `predict`, and what a hostile, slow or crowded network does to it (S01 to S10)."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from fastapi.testclient import TestClient
from hypothesis import strategies as st

from benchmarks import serve as load
from tests.deploy.test_batch import TASKS, saved, sentence
from tests.faults.test_fuzz import COUNTS, holds
from tests.support.browser import browser
from tests.support.commands import YOURBERT
from tests.support.serve_process import Service, served
from yourbert.config.schema import Runtime
from yourbert.deploy.batch import batch_predict
from yourbert.deploy.serve.app import build
from yourbert.deploy.serve.limits import Limits, Refused
from yourbert.deploy.serve.queue import Queue
from yourbert.deploy.serve.request_schema import Predict, read, strict_json

FP32 = Runtime(device="cpu", precision="fp32", threads=1, deterministic=False)
SECRET = "a secret that somebody typed"
HEAD = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("served"), TASKS)


@pytest.fixture(scope="module")
def service(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with served(folder, tmp_path_factory.mktemp("log") / "log", seconds=2.0) as service:
        yield service


def error(response: requests.Response, status: int, code: str) -> dict[str, str]:
    """The error of a response, which is whole: a code, a message, and the id that the header has too."""
    assert response.status_code == status, response.text
    found: dict[str, str] = response.json()["error"]
    assert found["code"] == code and found["message"]
    assert found["request_id"] == response.headers["X-Request-ID"]
    return found


def mood(texts: Sequence[Any]) -> dict[str, Any]:
    return {"task": "mood", "texts": list(texts)}


def test_it_answers_as_predict_does(service: Service, folder: Path, tmp_path: Path) -> None:
    texts = [sentence(number) for number in range(50)]
    (tmp_path / "t.txt").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    ask: dict[str, Any] = {"task_name": "mood", "columns": (), "id_column": None, "runtime": FP32}
    batch_predict(folder, str(tmp_path / "t.txt"), out=tmp_path / "a.jsonl", **ask)
    expected = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()]
    found = service.ask("predict", mood(texts)).json()
    assert found["task"] == "mood" and len(found["model"]) == 12
    for one, other in zip(found["answers"], expected, strict=True):
        assert one["prediction"] == other["prediction"]
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)
    assert any(a["cut"] for a in found["answers"]) and not all(a["cut"] for a in found["answers"])


def test_pairs_and_reasons(service: Service) -> None:
    pair = ["good film", "was very bad,"]
    similar = service.ask("predict", {"task": "sim", "texts": [pair, pair[::-1]]}).json()["answers"]
    assert similar[0]["prediction"] == pytest.approx(similar[1]["prediction"], abs=1e-4)
    reason = service.ask("explain", {"task": "same", "text": pair}).json()["explanation"]
    assert (
        reason["answer"] == service.ask("predict", {"task": "same", "texts": [pair]}).json()["answers"][0]["prediction"]
    )
    assert {word["number"] for word in reason["words"]} == {0, 1}


def test_it_describes_itself(service: Service) -> None:
    assert service.get("health").json() == {"status": "alive"}
    assert service.get("ready").json()["stale"] == ""
    assert service.get("tasks").json()["tasks"]["mood"]["labels"] == list(TASKS["mood"].labels)
    description = service.get("openapi.json").json()
    body = description["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["properties"]) == {"task", "texts"}
    assert 'yourbert_requests_total{path="/health",status="200"}' in service.get("metrics").text


def test_s01_a_large_body(service: Service) -> None:
    before = service.resident()
    told = error(service.ask("predict", mood(["x" * (10 << 20)])), 413, "S01")
    assert str(Limits().body) in told["message"]
    parts = iter([b'{"texts": ["'] + [b"x" * 65536] * 160)
    headers = {"Content-Type": "application/json"}
    response = requests.post(service.url("predict"), data=parts, headers=headers, timeout=60)
    error(response, 413, "S01")
    assert service.resident() - before < 30 << 20


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


@pytest.mark.parametrize("count", COUNTS)
def test_s02_any_request(count: int) -> None:
    """It is answered, or refused as a client's mistake, and nothing else happens."""
    app = build(Echo(), Limits(), None)  # type: ignore[arg-type]

    async def status(method: str, path: str, headers: list[tuple[bytes, bytes]], body: bytes) -> int:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        parts = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Any:
            return next(parts, {"type": "http.disconnect"})

        facts = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": b""}
        await app(
            {**facts, "raw_path": path.encode(errors="replace"), "root_path": "", "scheme": "http"}, receive, send
        )
        return int(sent[0]["status"])

    with asyncio.Runner() as runner:
        seen: set[int] = set()
        holds(count, REQUESTS, lambda one: seen.add(runner.run(status(*one))))
    assert all(200 <= status < 500 for status in seen) and {200, 400, 404, 405, 415} <= seen


class Echo:
    """A model that says what it was asked."""

    id, tasks = "0" * 12, TASKS

    def predict(self, name: str, rows: Sequence[Sequence[str]]) -> list[Any]:
        return [{"prediction": row[0]} for row in rows]

    explain = predict

    def stale(self) -> str:
        return ""


def test_s02_a_near_name_is_named() -> None:
    with pytest.raises(Refused, match="did you mean 'texts'"):
        read(Predict, b'{"texts": ["a"], "text": ["a"]}')
    assert strict_json(b'{"a": [1, "b"]}') == {"a": [1, "b"]}


def test_s03_what_does_not_exist(service: Service) -> None:
    assert (
        "did you mean 'mood'" in error(service.ask("predict", {"task": "moood", "texts": ["a"]}), 404, "S03")["message"]
    )
    assert error(service.ask("predict", {"texts": ["a"]}), 400, "S03")["field"] == "task"
    error(service.ask("predictions", {}), 404, "S03")
    assert error(service.get("predict"), 405, "S03") and service.get("predict").headers["Allow"] == "POST"
    error(requests.post(service.url("predict"), data="a=b", timeout=60), 415, "S03")
    error(requests.get(service.url("tasks"), headers={"Host": "elsewhere.example"}, timeout=60), 400, "S03")


def test_s04_many_texts(service: Service) -> None:
    assert str(Limits().texts) in error(service.ask("predict", mood(["a"] * 10_000)), 413, "S04")["message"]
    assert len(service.ask("predict", mood(["a"] * Limits().texts)).json()["answers"]) == Limits().texts


SLOW: dict[str, bytes] = {
    "nothing": b"",
    "half a head": b"POST /predict HTTP/1.1\r\nHost: localhost\r\n",
    "half a body": HEAD.format(9).encode() + b"{",
    "half of the second head": b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /hea",
}


@pytest.mark.parametrize("sent", SLOW)
def test_s05_a_slow_client(service: Service, sent: str) -> None:
    """The limit is 2 seconds here. Others are served meanwhile."""
    with service.connect() as slow:
        began = time.monotonic()
        slow.sendall(SLOW[sent])
        assert service.ask("predict", mood(["a"])).ok
        got = b""
        while part := slow.recv(4096):
            got += part
        assert time.monotonic() - began < 15
        assert (b" 408 " in got) == (sent == "half a body")


def test_s05_drops_of_a_head_do_not_help(service: Service) -> None:
    with service.connect() as slow:
        began = time.monotonic()
        with pytest.raises(OSError):
            for _ in range(100):
                slow.sendall(b"X")
                time.sleep(0.1)
                slow.settimeout(0.01)
                try:
                    if not slow.recv(10):
                        raise ConnectionResetError
                except TimeoutError:
                    pass
        assert time.monotonic() - began < 15


def test_s06_a_crowd(folder: Path, tmp_path: Path) -> None:
    """64 clients at once where 16 rows may wait: refused or answered, and nobody gets another's answer."""
    with served(folder, tmp_path / "log", slow=0.05, waiting=16) as service:
        alone = {n: service.ask("predict", mood([sentence(n)])).json()["answers"] for n in range(64)}

        def client(number: int) -> list[int]:
            seen = []
            for _ in range(5):
                response = service.ask("predict", mood([sentence(number)]))
                seen.append(response.status_code)
                if response.status_code == 503:
                    assert error(response, 503, "S06") and int(response.headers["Retry-After"]) > 0
                else:
                    (one,), (other,) = response.json()["answers"], alone[number]
                    assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)
            return seen

        with ThreadPoolExecutor(64) as pool:
            seen = [status for found in pool.map(client, range(64)) for status in found]
        assert set(seen) == {200, 503}
        assert service.get("health").ok


def test_s07_a_client_that_goes_away(folder: Path, tmp_path: Path) -> None:
    body = json.dumps(mood(["a"])).encode()
    with served(folder, tmp_path / "log", slow=0.5) as service:
        clients = [service.connect() for _ in range(40)]
        for client in clients:
            client.sendall(HEAD.format(len(body)).encode() + body)
            time.sleep(0.005)
        for client in clients[1:]:
            client.close()
        assert b" 200 " in clients[0].recv(65536)
        clients[0].close()
        assert service.ask("predict", mood(["a"])).ok
        rows = service.get("metrics").text.partition('yourbert_rows_total{task="mood"} ')[2].partition("\n")[0]
        assert float(rows) < 10, "what nobody waits for is not computed"


def test_s08_an_end_under_load(folder: Path, tmp_path: Path) -> None:
    with served(folder, tmp_path / "log", slow=0.2) as service:
        with ThreadPoolExecutor(16) as pool:
            asked = [pool.submit(service.ask, "predict", mood([sentence(n)])) for n in range(16)]
            time.sleep(0.3)
            service.process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            service.process.wait(60)
            assert time.monotonic() - began < 10
            assert all(one.result().status_code == 200 for one in asked), "none is lost"
        assert service.process.returncode == 143
        assert "Traceback" not in service.log.read_text()


def test_s09_the_folder_changes(folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "model"
    shutil.copytree(folder, own)
    other = saved(tmp_path / "other", {"mood": TASKS["mood"]})
    with served(own, tmp_path / "log") as service:
        before = service.ask("predict", mood(["good film"])).json()
        (own / "model.safetensors").touch()
        assert service.get("ready").json()["stale"] == "", "touched, but the same"
        with (own / "model.safetensors").open("r+b") as file:
            file.seek(-1, 2)
            file.write(b"\xff")
        assert "not whole" in service.get("ready").json()["stale"]
        shutil.rmtree(own)
        assert "not whole" in service.get("ready").json()["stale"]
        shutil.copytree(other, own)
        assert "another model" in service.get("ready").json()["stale"]
        assert "yourbert_model_stale 1.0" in service.get("metrics").text
        assert service.ask("predict", mood(["good film"])).json() == before


def test_s10_errors_tell_nothing(folder: Path, tmp_path: Path) -> None:
    with served(folder, tmp_path / "log") as service:
        for body in ({"task": SECRET, "texts": ["a"]}, {"task": "mood", "texts": [["a", SECRET]]}, {SECRET: 1}):
            service.ask("predict", body)
        (service.connect()).sendall(f"GET {SECRET} / HTTP/9\r\n\r\n".encode())
        told = service.ask("explain", {"task": "mood", "text": "good"}, headers={"X-Request-ID": "mine-1"})
        assert told.headers["X-Request-ID"] == "mine-1"
        told = service.ask("explain", {"task": "mood", "text": "good"}, headers={"X-Request-ID": "a b\x7f"})
        assert told.headers["X-Request-ID"] != "a b\x7f"
        log = service.log.read_text()
    assert SECRET not in log and "Traceback" not in log and log.count("\n") == 1


def test_s10_a_failure_inside(folder: Path) -> None:
    """The client is told an id, the log the kind of error and the id."""

    class Broken(Echo):
        def predict(self, name: str, rows: Sequence[Sequence[str]]) -> list[Any]:
            raise RuntimeError(f"{rows} of {folder}")

    with TestClient(build(Broken(), Limits(), None), raise_server_exceptions=False) as client:  # type: ignore[arg-type]
        response = client.post("/predict", json=mood([SECRET]))
        assert response.status_code == 500 and response.json()["error"]["code"] == "S10"
        assert SECRET not in response.text and str(folder) not in response.text


def test_the_page_in_a_browser(service: Service) -> None:
    hostile = "good film <img src=x onerror=alert(1)>"
    with browser(service.url("")) as tab:
        tab.select_option("#task", "mood")
        tab.fill("#first", hostile)
        tab.click("button")
        tab.wait_for_selector("#words mark")
        assert tab.locator("#prediction").inner_text() in TASKS["mood"].labels
        assert tab.locator("#shares tr").count() == 3 and tab.locator("#words img").count() == 0
        assert tab.locator("#second").is_hidden()
        tab.select_option("#task", "sim")
        tab.fill("#second", "was very bad,")
        tab.click("button")
        tab.wait_for_selector("#words p + p mark")
        for width in (1280, 390):
            tab.set_viewport_size({"width": width, "height": 900})
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.complaints == []


@pytest.mark.slow
def test_g15_64_clients(folder: Path, figure: Callable[[object], None]) -> None:
    """Ten minutes, or YOURBERT_LOAD_SECONDS, of good and odd requests."""
    with load.server(folder) as (port, process):
        found = load.load(port, process.pid, "mood", 64, float(os.environ.get("YOURBERT_LOAD_SECONDS", "600")))
    figure(found)
    assert load.good(found), found


def within(program: Callable[[], Any]) -> Any:
    return asyncio.run(asyncio.wait_for(program(), 30))


def test_rows_that_wait_are_computed_together() -> None:
    """By task, in their order, and each caller gets its own."""
    batches: list[tuple[str, int]] = []

    def answer(task: str, rows: list[Any]) -> list[str]:
        batches.append((task, len(rows)))
        time.sleep(0.05)
        return [f"{task} {row[0]}" for row in rows]

    async def program() -> list[Any]:
        queue = Queue(answer, answer, Limits())
        worker = asyncio.create_task(queue.work())
        asks = [queue.ask(queue.predictions, "ab"[n % 2], [[str(n)], [str(-n)]]) for n in range(20)]
        found = await asyncio.gather(*asks)
        worker.cancel()
        return found

    found = within(program)
    assert found == [[f"{'ab'[n % 2]} {n}", f"{'ab'[n % 2]} {-n}"] for n in range(20)]
    assert batches == [("a", 20), ("b", 20)]


def test_a_prediction_waits_for_one_explanation_at_most() -> None:
    done: list[str] = []

    def answer(task: str, rows: list[Any]) -> list[str]:
        time.sleep(0.2)
        done.append(task)
        return [task] * len(rows)

    async def program() -> None:
        queue = Queue(answer, answer, Limits())
        worker = asyncio.create_task(queue.work())
        asks = []
        for _ in range(1 + Limits().explanations):  # the first is begun, the others wait
            asks.append(asyncio.create_task(queue.ask(queue.explanations, "why", [["x"]])))
            await asyncio.sleep(0.005)
        with pytest.raises(Refused, match="waiting"):
            await queue.ask(queue.explanations, "why", [["x"]])
        await queue.ask(queue.predictions, "what", [["x"]])
        await asyncio.gather(*asks)
        worker.cancel()

    within(program)
    assert done.index("what") <= 2


@pytest.mark.parametrize("words", [["--port", "99999"], ["--host", "no.such.host.invalid"], ["--port", "x"]])
def test_an_address_that_cannot_be(folder: Path, words: list[str]) -> None:
    command = [*YOURBERT, "serve", str(folder), "--device", "cpu", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("YB-P05") and done.stderr.count("\n") == 1


def test_a_port_that_is_taken(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [*YOURBERT, "serve", str(folder), "--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "--port" in done.stderr and done.stderr.count("\n") == 1
