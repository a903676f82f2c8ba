"""A loopback HTTP server that fails on demand: each path has a script of answers, the last one repeats."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Faulty

    def answer(self) -> None:
        path = self.path.partition("?")[0]
        lower = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append(Request(self.command, self.path, lower))
        self.close_connection = True
        script = self.server.scripts.get(path, [self.server.otherwise])
        step = script[0] if self.command == "HEAD" or len(script) == 1 else script.pop(0)
        with contextlib.suppress(ConnectionError):
            step(self)

    do_GET = do_HEAD = answer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def head(self, code: int, **headers: str | int) -> None:
        """Sends the status and headers; `content_length` stands for `Content-Length`."""
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.send_header("Connection", "close")
        self.end_headers()

    def body(self, data: bytes) -> None:
        if self.command == "GET":
            self.wfile.write(data)
            self.wfile.flush()


Step = Callable[[Handler], None]


def status(code: int, **headers: str) -> Step:
    return lambda to: to.head(code, Content_Length=0, **headers)


def redirect(to_url: str, code: int = 302) -> Step:
    return status(code, Location=to_url)


def whole(data: bytes, **headers: str) -> Step:
    """The file, or the part of it that a Range asks for."""
    return cut(data, len(data), **headers)


def cut(data: bytes, at: int, **headers: str) -> Step:
    """Promises the rest of the file, sends up to byte `at` and closes."""

    def step(to: Handler) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-", to.headers.get("Range", ""))
        start = int(wanted[1]) if wanted else 0
        span = {"Content_Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if wanted else {}
        to.head(206 if wanted else 200, Content_Length=len(data) - start, **span, **headers)
        to.body(data[start:at])

    return step


@dataclass
class Faulty(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    scripts: dict[str, list[Step]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    otherwise: Step = field(default_factory=lambda: status(404))

    def __post_init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def plan(self, path: str, *steps: Step) -> str:
        """Scripts the answers of a path (HEAD always gets the next one without using it up); returns its URL."""
        self.scripts[path] = list(steps)
        return self.address + path

    def gets(self, path: str) -> list[Request]:
        return [r for r in self.requests if r.method == "GET" and r.path.partition("?")[0] == path]

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@contextlib.contextmanager
def serving() -> Iterator[Faulty]:
    """A running server on the loopback address."""
    server = Faulty()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def closed_address() -> str:
    """An address on this machine where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def without_proxies(patch: pytest.MonkeyPatch) -> None:
    """The servers of the tests are on this machine; a proxy of the environment does not know them."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        patch.delenv(name, raising=False)
        patch.delenv(name.upper(), raising=False)
