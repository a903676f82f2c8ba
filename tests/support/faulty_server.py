"""A loopback HTTP server that fails on demand: each path has a script of answers, the last one repeats.

It counts the bytes of bodies it sent, so that a test can prove that a resumed download fetched only the rest.
"""

from __future__ import annotations

import contextlib
import gzip
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HTML = b"<!DOCTYPE html><html><head><title>Log in</title></head></html>"


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
        script = self.server.scripts.get(path, [status(404)])
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
        if self.command == "HEAD":
            return
        for at in range(0, len(data), 1 << 16):
            part = data[at : at + (1 << 16)]
            self.wfile.write(part)
            self.server.sent[self.path.partition("?")[0]] += len(part)
        self.wfile.flush()

    def range_start(self, etag: str) -> int | None:
        """The first byte asked for, or None where the whole file is due."""
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted is None or self.headers.get("If-Range", etag) != etag:
            return None
        return int(wanted[1])


Step = Callable[[Handler], None]


@dataclass
class Faulty(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    scripts: dict[str, list[Step]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    sent: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    closing: threading.Event = field(default_factory=threading.Event)

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
        server.closing.set()
        server.shutdown()
        server.server_close()


def whole(data: bytes, etag: str = '"v1"', ranges: bool = True, **headers: str) -> Step:
    """The file, or the part of it that a Range asks for. etag: "" sends none."""

    def step(to: Handler) -> None:
        more = headers | ({"ETag": etag} if etag else {})
        start = to.range_start(etag) if ranges else None
        if start is None:
            to.head(200, Content_Length=len(data), **more)
            to.body(data)
        elif start >= len(data):
            to.head(416, Content_Range=f"bytes */{len(data)}", Content_Length=0, **more)
        else:
            span = f"bytes {start}-{len(data) - 1}/{len(data)}"
            to.head(206, Content_Range=span, Content_Length=len(data) - start, **more)
            to.body(data[start:])

    return step


def cut(data: bytes, at: int, etag: str = '"v1"') -> Step:
    """Promises the rest of the file, sends up to byte `at` and closes."""

    def step(to: Handler) -> None:
        start = to.range_start(etag) or 0
        more = {"Content_Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        to.head(206 if start else 200, Content_Length=len(data) - start, ETag=etag, **more)
        to.body(data[start:at])

    return step


def cut_chunked(data: bytes, at: int, etag: str = '"v1"') -> Step:
    """Chunked, without a length; closes without the last chunk if `at` is before the end."""

    def step(to: Handler) -> None:
        to.head(200, Transfer_Encoding="chunked", ETag=etag)
        for start in range(0, at, 1000):
            part = data[start : min(at, start + 1000)]
            to.wfile.write(b"%x\r\n" % len(part))
            to.body(part)
            to.wfile.write(b"\r\n")
        if at == len(data):
            to.wfile.write(b"0\r\n\r\n")

    return step


def slow(data: bytes, at: int, pause: float, step_bytes: int, etag: str = '"v1"') -> Step:
    """Sends up to `at` at once and the rest in drops; a long pause is a stall."""

    def step(to: Handler) -> None:
        start = to.range_start(etag) or 0
        more = {"Content_Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        to.head(206 if start else 200, Content_Length=len(data) - start, ETag=etag, **more)
        to.body(data[start:at])
        for here in range(max(start, at), len(data), step_bytes):
            if to.server.closing.wait(pause):
                return
            to.body(data[here : here + step_bytes])

    return step


def redirect(to_url: str, code: int = 302, **headers: str) -> Step:
    return lambda to: to.head(code, Location=to_url, Content_Length=0, **headers)


def status(code: int, **headers: str) -> Step:
    return lambda to: to.head(code, Content_Length=0, **headers)


def packed(data: bytes, keep: int | None = None, promise_all: bool = True) -> Step:
    """The file as gzip, although nobody asked; `keep` cuts the packed bytes, and perhaps the promise of them."""

    def step(to: Handler) -> None:
        zipped = gzip.compress(data)
        length = len(zipped) if promise_all else len(zipped[:keep])
        to.head(200, Content_Length=length, Content_Encoding="gzip", ETag='"z"')
        to.body(zipped[:keep])

    return step


def wrong_length(data: bytes, promised: int) -> Step:
    """A Content-Length that is a lie; the same to every Range."""

    def step(to: Handler) -> None:
        start = to.range_start('"v1"')
        if start is not None and start >= len(data):
            to.head(416, Content_Range=f"bytes */{len(data)}", Content_Length=0, ETag='"v1"')
        else:
            to.head(200, Content_Length=promised, ETag='"v1"')
            to.body(data)

    return step


def page() -> Step:
    return whole(HTML, etag="", Content_Type="text/html; charset=utf-8")
