"""The endpoints of the service, their OpenAPI description, and their metrics.

POST /predict, POST /explain   predictions, and the words they rest on
GET /                          a demo page for both
GET /tasks, /health, /ready, /metrics, /openapi.json
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from yourbert.deploy.serve import openapi
from yourbert.deploy.serve.limits import Limits, LimitsMiddleware, RequestError
from yourbert.deploy.serve.model import ServedModel
from yourbert.deploy.serve.page.page import page_endpoints
from yourbert.deploy.serve.queue import JobQueue, Scheduler
from yourbert.deploy.serve.request_schema import ExplainRequest, PredictRequest, check_rows, find_task, parse_body

Endpoint = TypeVar("Endpoint", bound=Callable[..., Awaitable[Any]])


def build_app(served: ServedModel, limits: Limits, hosts: Container[str] | None) -> FastAPI:
    """The ASGI application. hosts: the accepted Host headers, None for any."""
    scheduler = Scheduler(served.predict, served.explain, limits)
    metrics = Metrics(scheduler)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        worker = asyncio.create_task(scheduler.run())
        yield
        worker.cancel()
        with suppress(asyncio.CancelledError):
            await worker

    # FastAPI's own pages load scripts from other servers; the description itself is at /openapi.json.
    app = FastAPI(title="YourBERT", version=served.id, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(LimitsMiddleware, limits=limits, hosts=hosts, record=metrics.record)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        response = RequestError(error.status_code, "S03", str(error.detail)).response(request.state.request_id)
        response.headers.update(error.headers or {})
        return response

    async def results(
        request: Request, queue: JobQueue, kind: type[PredictRequest | ExplainRequest]
    ) -> tuple[str, list[Any]]:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise RequestError(415, "S03", "the body must be application/json")
        body = parse_body(kind, await request.body())
        task = find_task(served.tasks, body.task)
        texts, field = (body.texts, "texts") if isinstance(body, PredictRequest) else ([body.text], "text")
        rows = check_rows(task, texts, limits, field)
        return task.name, list(await cancel_on_disconnect(request, scheduler.submit(queue, task.name, rows)))

    def post(path: str, success: type[BaseModel], field: Literal["text", "texts"]) -> Callable[[Endpoint], Endpoint]:
        extra = openapi.request_body(field, served.tasks, limits)
        of_path = openapi.responses(success, body=True)
        return app.post(path, openapi_extra=extra, responses=of_path, response_model=None)

    def get(path: str, success: type[BaseModel] | None, **more: Any) -> Callable[[Endpoint], Endpoint]:
        of_path = openapi.responses(success, body=False)
        both = app.api_route(path, methods=["HEAD"], responses=of_path, response_model=None, **more)
        one = app.get(path, responses=of_path, response_model=None, **more)
        return lambda endpoint: one(both(endpoint))

    @post("/predict", openapi.PredictResponse, "texts")
    async def predict(request: Request) -> dict[str, Any]:
        """The prediction for each text, in order."""
        task, predictions = await results(request, scheduler.predictions, PredictRequest)
        metrics.rows.labels(task).inc(len(predictions))
        return {"model": served.id, "task": task, "predictions": predictions}

    @post("/explain", openapi.ExplainResponse, "text")
    async def explain(request: Request) -> dict[str, Any]:
        """The contribution of each word to the prediction for one text (integrated gradients)."""
        task, (explanation,) = await results(request, scheduler.explanations, ExplainRequest)
        return {"model": served.id, "task": task, "explanation": explanation}

    @get("/tasks", openapi.TasksResponse)
    async def tasks() -> dict[str, Any]:
        """The tasks of the model, with labels and lengths."""
        return {"model": served.id, "tasks": {name: task.to_json() for name, task in served.tasks.items()}}

    @get("/health", openapi.HealthResponse)
    async def health() -> dict[str, str]:
        """Whether the process is alive."""
        return {"status": "alive"}

    @get("/ready", openapi.ReadyResponse)
    async def ready() -> dict[str, Any]:
        """Whether it is ready; `stale` says if the model folder has changed since it was loaded."""
        stale = await asyncio.to_thread(served.stale)
        metrics.stale.set(bool(stale))
        return {"ready": True, "model": served.id, "tasks": list(served.tasks), "stale": stale}

    @get("/metrics", None, response_class=PlainTextResponse)
    async def prometheus() -> Response:
        """Counts and times, for Prometheus."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    for path, endpoint in page_endpoints().items():
        app.add_api_route(path, endpoint, methods=["GET", "HEAD"], include_in_schema=False)
    return app


async def cancel_on_disconnect(request: Request, work: Awaitable[Sequence[Any]]) -> Sequence[Any]:
    """Awaits the work; cancels it when the client disconnects. Raises RequestError (S07)."""
    working = asyncio.ensure_future(work)
    disconnect = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait((working, disconnect), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise RequestError(400, "S07", "the client disconnected")
        return working.result()
    finally:
        working.cancel()
        disconnect.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class Metrics:
    """The metrics of /metrics: requests by path and status, their seconds, predicted rows, waiting rows."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("yourbert_requests", "Requests answered.", ["path", "status"], registry=registry)
        self.seconds = Histogram(
            "yourbert_request_seconds", "From request body to response.", ["path"], registry=registry
        )
        self.rows = Counter("yourbert_rows", "Rows predicted.", ["task"], registry=registry)
        self.stale = Gauge("yourbert_model_stale", "1: the model folder has changed.", registry=registry)
        waiting = Gauge("yourbert_rows_waiting", "Rows that are waiting.", registry=registry)
        waiting.set_function(lambda: scheduler.predictions.waiting_rows)

    def record(self, path: str, status: int, seconds: float) -> None:
        self.requests.labels(path, status).inc()
        self.seconds.labels(path).observe(seconds)
