"""The paths of the service, their OpenAPI description, and what they count.

POST /predict, POST /explain   answers, and which words they rest on
GET /                          a page to try both
GET /tasks, /health, /ready, /metrics, /openapi.json
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Container, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from yourbert.deploy.serve.limits import Guard, Limits, Refused
from yourbert.deploy.serve.model import Served
from yourbert.deploy.serve.page.page import page
from yourbert.deploy.serve.queue import Lane, Queue
from yourbert.deploy.serve.request_schema import Explain, Predict, read, rows_of, task_of


def build(served: Served, limits: Limits, hosts: Container[str] | None) -> FastAPI:
    """hosts: the names under which the service may be asked, as in the Host header; None: any."""
    queue = Queue(served.predict, served.explain, limits)
    counts = Counts(queue)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        worker = asyncio.create_task(queue.work())
        yield
        worker.cancel()
        with suppress(asyncio.CancelledError):
            await worker

    # Their pages load scripts from elsewhere; the description itself is at /openapi.json.
    app = FastAPI(title="YourBERT", version=served.id, lifespan=life, docs_url=None, redoc_url=None)
    app.add_middleware(Guard, limits=limits, hosts=hosts, note=counts.note)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        said = Refused(error.status_code, "S03", str(error.detail))
        response = said.response(request.state.request_id)
        response.headers.update(error.headers or {})
        return response

    async def answers(request: Request, lane: Lane, kind: type[Predict] | type[Explain]) -> tuple[str, list[Any]]:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Refused(415, "S03", "the body must be application/json")
        body = read(kind, await request.body())
        task = task_of(served.tasks, body.task)
        rows = (
            rows_of(task, body.texts, limits)
            if isinstance(body, Predict)
            else rows_of(task, [body.text], limits, "text")
        )
        return task.name, list(await while_there(request, queue.ask(lane, task.name, rows)))

    @app.post("/predict", openapi_extra=described(Predict))
    async def predict(request: Request) -> dict[str, Any]:
        """What the model answers to each text, in their order."""
        task, found = await answers(request, queue.predictions, Predict)
        counts.rows.labels(task).inc(len(found))
        return {"model": served.id, "task": task, "answers": found}

    @app.post("/explain", openapi_extra=described(Explain))
    async def explain(request: Request) -> dict[str, Any]:
        """Which words of a text the answer rests on (integrated gradients)."""
        task, found = await answers(request, queue.explanations, Explain)
        return {"model": served.id, "task": task, "explanation": found[0]}

    @app.get("/tasks")
    async def tasks() -> dict[str, Any]:
        """What can be asked."""
        return {"model": served.id, "tasks": {name: task.to_json() for name, task in served.tasks.items()}}

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Whether the process lives."""
        return {"status": "alive"}

    @app.get("/ready")
    async def ready() -> dict[str, Any]:
        """Whether it answers, and whether the folder it serves is still the one that it read."""
        stale = await asyncio.to_thread(served.stale)
        counts.stale.set(bool(stale))
        return {"ready": True, "model": served.id, "tasks": list(served.tasks), "stale": stale}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Counts and times, for Prometheus."""
        return Response(generate_latest(counts.registry), media_type=CONTENT_TYPE_LATEST)

    for path, part in page().items():
        app.add_api_route(path, part, include_in_schema=False)

    return app


def described(kind: type[BaseModel]) -> dict[str, Any]:
    """The body in the OpenAPI description; it is read by our own, stricter reader."""
    content = {"application/json": {"schema": kind.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


async def while_there(request: Request, answer: Awaitable[Sequence[Any]]) -> Sequence[Any]:
    """The answer, unless the client goes away first: then nobody needs it. Raises Refused (S07)."""
    asked = asyncio.ensure_future(answer)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((asked, gone), return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            raise Refused(400, "S07", "the client went away")
        return asked.result()
    finally:
        asked.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class Counts:
    """What /metrics tells: requests by path and status with their seconds, rows answered, rows waiting."""

    def __init__(self, queue: Queue) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("yourbert_requests", "Requests answered.", ["path", "status"], registry=registry)
        self.seconds = Histogram("yourbert_request_seconds", "From body to answer.", ["path"], registry=registry)
        self.rows = Counter("yourbert_rows", "Rows predicted.", ["task"], registry=registry)
        self.stale = Gauge("yourbert_model_stale", "1: the folder is not what is served.", registry=registry)
        waiting = Gauge("yourbert_rows_waiting", "Rows that are not begun yet.", registry=registry)
        waiting.set_function(lambda: queue.predictions.waiting)

    def note(self, path: str, status: int, seconds: float) -> None:
        self.requests.labels(path, status).inc()
        self.seconds.labels(path).observe(seconds)
