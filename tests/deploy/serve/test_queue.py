"""Waiting rows are computed in one batch; the work of a disconnected client is dropped: S06, S07."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.serve.conftest import HEAD, error, mood
from tests.support.predicting import sentence
from tests.support.serve_process import served
from yourbert.deploy.serve.limits import Limits, RequestError
from yourbert.deploy.serve.queue import Scheduler

pytestmark = pytest.mark.integration


def test_s06_a_crowd(folder: Path, tmp_path: Path) -> None:
    """64 clients at once where 16 rows may wait: refused or answered, and nobody gets another's answer."""
    with served(folder, tmp_path / "log", slow=0.05, max_waiting_rows=16) as service:
        alone = {n: service.ask("predict", mood([sentence(n)])).json()["predictions"] for n in range(64)}

        def client(number: int) -> list[int]:
            seen = []
            for _ in range(5):
                response = service.ask("predict", mood([sentence(number)]))
                seen.append(response.status_code)
                if response.status_code == 503:
                    assert error(response, 503, "S06") and int(response.headers["Retry-After"]) > 0
                else:
                    (one,), (other,) = response.json()["predictions"], alone[number]
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
        scheduler = Scheduler(answer, answer, Limits())
        worker = asyncio.create_task(scheduler.run())
        asks = [scheduler.submit(scheduler.predictions, "ab"[n % 2], [[str(n)], [str(-n)]]) for n in range(20)]
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
        scheduler = Scheduler(answer, answer, Limits())
        worker = asyncio.create_task(scheduler.run())
        asks = []
        for _ in range(1 + Limits().max_waiting_explanations):  # the first is begun, the others wait
            asks.append(asyncio.create_task(scheduler.submit(scheduler.explanations, "why", [["x"]])))
            await asyncio.sleep(0.005)
        with pytest.raises(RequestError, match="waiting"):
            await scheduler.submit(scheduler.explanations, "why", [["x"]])
        await scheduler.submit(scheduler.predictions, "what", [["x"]])
        await asyncio.gather(*asks)
        worker.cancel()

    within(program)
    assert done.index("what") <= 2
