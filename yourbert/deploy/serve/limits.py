"""The limits of a request, in one place, and the error response of a request that exceeds one.

An error is JSON, {"error": {"code", "message", "field", "request_id"}}. It contains no traceback, no path and nothing
from other requests. `docs/serving.md` lists the codes, S01 to S10.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
import uuid
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("yourbert")
Record = Callable[[str, int, float], None]  # path, status, seconds
DRAIN_TIMEOUT_S = 2.0
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# No framing, no content sniffing, no external resources; the demo page sets its own, wider policy.
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


@dataclass(frozen=True)
class Limits:
    """max_texts: rows of one request. max_waiting_rows: of all requests that are not being computed yet.

    receive_timeout_s: for the head of a request, and again for its body. shutdown_timeout_s: after SIGTERM.
    """

    max_body_bytes: int = 1 << 20
    max_texts: int = 256
    max_waiting_rows: int = 1024
    max_waiting_explanations: int = 4
    receive_timeout_s: float = 10.0
    shutdown_timeout_s: float = 8.0


class RequestError(Exception):
    """A request that is refused. retry_after: seconds, 0 for none."""

    def __init__(self, status: int, code: str, message: str, field: str = "", retry_after: int = 0) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.field, self.retry_after = status, code, message, field, retry_after

    @property
    def body_is_read(self) -> bool:
        """Whether the body was read to its end; else the connection cannot be used for another request."""
        return self.code not in ("S01", "S05")

    def response(self, request_id: str) -> JSONResponse:
        error = {"code": self.code, "message": self.message, "field": self.field, "request_id": request_id}
        headers = {"Retry-After": str(self.retry_after)} if self.retry_after else {}
        headers |= {} if self.body_is_read else {"Connection": "close"}
        return JSONResponse({"error": error}, self.status, headers)


class LimitsMiddleware:
    """The outermost ASGI layer: gives each request an id, limits its body, and hides the details of internal errors.

    hosts: the accepted Host headers, None for any. record: called with path, status and seconds of each request.
    """

    def __init__(self, app: ASGIApp, limits: Limits, hosts: Container[str] | None, record: Record) -> None:
        self.app, self.limits, self.hosts, self.record = app, limits, hosts, record

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0
        client_id = Headers(scope=scope).get("x-request-id", "")
        request_id = client_id if REQUEST_ID.fullmatch(client_id) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_response(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._check_host(scope)
            body = await self._receive_body(scope, receive)
            await self.app(scope, replay_body(body, receive), send_response)
        except RequestError as refused:
            last_send = send_response if refused.body_is_read else drain_request(send_response, receive)
            await refused.response(request_id)(scope, receive, last_send)
        except Exception as error:
            # Only the type of the error: its message may quote the request.
            logger.error("YB-S10 request %s failed: internal error (%s)", request_id, type(error).__name__)
            if not status:
                internal = RequestError(500, "S10", "internal error; the server's log contains the request id")
                await internal.response(request_id)(scope, receive, send_response)
        finally:
            # All unknown paths count as one: clients choose them, and each would be a metric of its own.
            self.record(getattr(scope.get("route"), "path", "other"), status, time.perf_counter() - started)

    def _check_host(self, scope: Scope) -> None:
        host = Headers(scope=scope).get("host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if self.hosts is not None and name not in self.hosts:
            raise RequestError(400, "S03", "unknown host name", field="Host")

    async def _receive_body(self, scope: Scope, receive: Receive) -> bytes:
        length = Headers(scope=scope).get("content-length", "0")
        # `int` raises for "²", which `isdigit` accepts, and for thousands of digits.
        if length.isascii() and length.isdigit() and (len(length) > 18 or int(length) > self.limits.max_body_bytes):
            raise self._too_large()
        try:
            async with asyncio.timeout(self.limits.receive_timeout_s):
                return await self._read(receive)
        except TimeoutError:
            message = f"the body did not arrive within {self.limits.receive_timeout_s:g} seconds"
            raise RequestError(408, "S05", message) from None

    async def _read(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise RequestError(400, "S07", "the client disconnected")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self.limits.max_body_bytes:
                raise self._too_large()
            if not message.get("more_body", False):
                return b"".join(parts)

    def _too_large(self) -> RequestError:
        return RequestError(413, "S01", f"the body has more than {self.limits.max_body_bytes} bytes")


def drain_request(send: Send, receive: Receive) -> Send:
    """A `send` that reads and discards the rest of the request before the connection is closed.

    Otherwise the kernel resets the connection at the client's next bytes, and the client may not see the response.
    """

    async def send_and_drain(message: Message) -> None:
        if message["type"] != "http.response.body":
            await send(message)
            return
        await send({**message, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                while (part := await receive())["type"] == "http.request" and part.get("more_body", False):
                    pass
        await send({"type": "http.response.body", "body": b""})

    return send_and_drain


def replay_body(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body already read once more, then what follows it."""
    parts: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return parts.pop() if parts else await receive()

    return receive_again
