"""The server process: its socket, its shutdown, and timeouts for slow clients."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
from pathlib import Path

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from yourbert.core.errors import fail, quoted
from yourbert.deploy.serve.app import build_app
from yourbert.deploy.serve.limits import Limits
from yourbert.deploy.serve.model import ServedModel
from yourbert.runtime.machine import Machine

logger = logging.getLogger("yourbert")
MAX_CONNECTIONS = 512


def serve(folder: Path, host: str, port: int, machine: Machine, limits: Limits) -> None:
    """Serves a model folder until SIGTERM or Ctrl-C; requests received by then are answered first.

    Raises UserError (C01, C12: the folder; P05: host or port).
    """
    with _listen(host, port) as listener:
        served = ServedModel(folder, machine)
        app = build_app(served, limits, _accepted_hosts(host))
        config = uvicorn.Config(
            app, http=_protocol(limits.receive_timeout_s), ws="none", lifespan="on", log_config=None, access_log=False,
            server_header=False, proxy_headers=False, limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=int(limits.shutdown_timeout_s),
        )  # fmt: skip
        for name in ("uvicorn", "uvicorn.error", "asyncio"):
            # Their messages about a malformed request may quote it.
            logging.getLogger(name).setLevel(logging.CRITICAL)
        name, number = listener.getsockname()[:2]
        shown = f"[{name}]" if ":" in name else name
        logger.info("%s: %s on http://%s:%d", folder, ", ".join(served.tasks), shown, number)
        uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    """Opens the listening socket. Raises UserError (P05) that says whether the host or the port is at fault."""
    fix = "name an address of this machine, for instance 127.0.0.1, or 0.0.0.0 for all of them"
    try:
        family = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][0]
    except (OSError, UnicodeError) as error:
        fail("P05", f"unknown host {quoted(host)}: {error}", where="--host", fix=fix)
    try:
        return socket.create_server((host, port), family=family, backlog=MAX_CONNECTIONS)
    except (OSError, OverflowError) as error:
        if getattr(error, "errno", None) == errno.EADDRNOTAVAIL:
            fail("P05", f"{quoted(host)} is not an address of this machine", where="--host", fix=fix)
        fail("P05", f"cannot listen on {host} port {port}: {error}", where="--port", fix="choose another port")


def _accepted_hosts(host: str) -> list[str] | None:
    """The accepted Host headers. On a loopback address only local names, against DNS rebinding; else None: any."""
    local = ["localhost", "127.0.0.1", "[::1]"]
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    return [*local, host] if loopback else None


def _protocol(timeout_s: float) -> type[H11Protocol]:
    """uvicorn's HTTP protocol with a timeout for the head of a request, which uvicorn does not have."""

    class SlowClientTimeout(H11Protocol):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._deadline = self.loop.call_later(timeout_s, transport.close)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._deadline is None and not self._in_request():
                self._deadline = self.loop.call_later(timeout_s, self.transport.close)

        def handle_events(self) -> None:
            super().handle_events()
            if self._in_request():
                self._cancel_deadline()

        def connection_lost(self, exc: Exception | None) -> None:
            self._cancel_deadline()
            super().connection_lost(exc)

        def _in_request(self) -> bool:
            """Whether a request is being received or answered."""
            return self.cycle is not None and not self.cycle.response_complete

        def _cancel_deadline(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

    return SlowClientTimeout
