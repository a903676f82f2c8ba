"""What a request may be: every limit in one place, and the errors that say which one was passed.

An error is JSON, {"error": {"code", "message", "field", "request_id"}}: no traceback, no path, nothing of what others
asked. What a client did wrong is named after `docs/serving.md`, S01 to S10.
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

LOGGER = logging.getLogger("yourbert")
Note = Callable[[str, int, float], None]
LINGER = 2.0  # seconds
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Nothing may frame the page, guess at types, or load from elsewhere; the page has its own, wider policy.
SECURE = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


@dataclass(frozen=True)
class Limits:
    """body: bytes. texts: rows of one call. waiting: rows of all calls that are not begun yet. explanations: calls that
    ask why and wait. seconds: for the head of a request to come, and for its body. drain: for answers after SIGTERM."""

    body: int = 1 << 20
    texts: int = 256
    waiting: int = 1024
    explanations: int = 4
    seconds: float = 10.0
    drain: float = 8.0


class Refused(Exception):
    """A request that is not answered, and why."""

    def __init__(self, status: int, code: str, message: str, field: str = "", retry: int = 0) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.field, self.retry = status, code, message, field, retry

    @property
    def whole(self) -> bool:
        """Whether the body was read to its end, so that what comes next is the next request."""
        return self.code not in ("S01", "S05")

    def response(self, request_id: str) -> JSONResponse:
        error = {"code": self.code, "message": self.message, "field": self.field, "request_id": request_id}
        headers = {"Retry-After": str(self.retry)} if self.retry else {}
        headers |= {} if self.whole else {"Connection": "close"}
        return JSONResponse({"error": error}, self.status, headers)


class Guard:
    """The outermost layer: names each request, bounds its body in bytes and seconds, and hides what went wrong inside.

    hosts: the names under which the service may be asked, None for any. note: told path, status and seconds of each.
    """

    def __init__(self, app: ASGIApp, limits: Limits, hosts: Container[str] | None, note: Note) -> None:
        self.app, self.limits, self.hosts, self.note = app, limits, hosts, note

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in SECURE.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._check_host(scope)
            body = await self._body(scope, receive)
            await self.app(scope, replayed(body, receive), answer)
        except Refused as refused:
            await refused.response(request_id)(scope, receive, answer if refused.whole else lingering(answer, receive))
        except Exception as error:
            # The kind of error alone: its message may quote what somebody asked.
            LOGGER.error("YB-S10 request %s failed inside (%s)", request_id, type(error).__name__)
            if not status:
                inside = Refused(500, "S10", "the server failed at this request; its log has the request id")
                await inside.response(request_id)(scope, receive, answer)
        finally:
            # Paths that do not exist are one path: they are the client's to choose.
            self.note(getattr(scope.get("route"), "path", "other"), status, time.perf_counter() - began)

    def _check_host(self, scope: Scope) -> None:
        host = Headers(scope=scope).get("host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if self.hosts is not None and name not in self.hosts:
            raise Refused(400, "S03", "the service is not asked by this name", field="Host")

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        told = Headers(scope=scope).get("content-length", "0")
        # "²" is a digit that `int` does not read, and thousands of digits are more than it reads.
        if told.isascii() and told.isdigit() and (len(told) > 18 or int(told) > self.limits.body):
            raise self._too_large()
        try:
            async with asyncio.timeout(self.limits.seconds):
                return await self._read(receive)
        except TimeoutError:
            raise Refused(408, "S05", f"the body did not come within {self.limits.seconds:g} seconds") from None

    async def _read(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Refused(400, "S07", "the client went away")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self.limits.body:
                raise self._too_large()
            if not message.get("more_body", False):
                return b"".join(parts)

    def _too_large(self) -> Refused:
        return Refused(413, "S01", f"a body has {self.limits.body} bytes at most")


def lingering(send: Send, receive: Receive) -> Send:
    """Before the connection is closed on a client that still sends, what it sends is read for a while and forgotten.

    Else the system would answer its next bytes by a reset, and the client might never read why it was refused.
    """

    async def last(message: Message) -> None:
        if message["type"] != "http.response.body":
            await send(message)
            return
        await send({**message, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while (got := await receive())["type"] == "http.request" and got.get("more_body", False):
                    pass
        await send({"type": "http.response.body", "body": b""})

    return last


def replayed(body: bytes, receive: Receive) -> Receive:
    """A body that was read already, as the app will read it; then whatever comes after it."""
    parts: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return parts.pop() if parts else await receive()

    return again
