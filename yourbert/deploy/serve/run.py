"""The process that serves: its sockets, its end, and clients that are too slow to be served."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from pathlib import Path

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from yourbert.core.errors import fail
from yourbert.deploy.serve.app import build
from yourbert.deploy.serve.limits import Limits
from yourbert.deploy.serve.model import Served
from yourbert.runtime.machine import Machine

LOGGER = logging.getLogger("yourbert")
CONNECTIONS = 512


def serve(folder: Path, host: str, port: int, machine: Machine, limits: Limits) -> None:
    """Serves a model folder until SIGTERM or Ctrl-C; what is asked by then is answered first.

    Raises UserError (C01, C12: the folder; P05: the address).
    """
    listening = _listening(host, port)
    with listening:
        served = Served(folder, machine)
        app = build(served, limits, _hosts(host))
        config = uvicorn.Config(
            app, http=_impatient(limits.seconds), ws="none", lifespan="on", log_config=None, access_log=False,
            server_header=False, proxy_headers=False, limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=int(limits.drain),
        )  # fmt: skip
        for name in ("uvicorn", "uvicorn.error", "asyncio"):
            # What they say of a broken request may quote it.
            logging.getLogger(name).setLevel(logging.CRITICAL)
        name, number = listening.getsockname()[:2]
        shown = f"[{name}]" if ":" in name else name
        LOGGER.info("%s: %s on http://%s:%d", folder, ", ".join(served.tasks), shown, number)
        uvicorn.Server(config).run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=CONNECTIONS)
    except (OSError, OverflowError) as error:
        fail(
            "P05", f"cannot listen on {host} port {port}: {error}", where="command line", fix="choose another `--port`"
        )


def _hosts(host: str) -> list[str] | None:
    """On loopback alone its own names: a page elsewhere whose name leads here must not ask in its reader's stead."""
    local = ["localhost", "127.0.0.1", "[::1]"]
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    return [*local, host] if loopback else None


def _impatient(seconds: float) -> type[H11Protocol]:
    """The protocol of uvicorn, but that the head of a request must be there in time."""

    class Impatient(H11Protocol):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._deadline = self.loop.call_later(seconds, transport.close)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._deadline is None and not self._asked():
                self._deadline = self.loop.call_later(seconds, self.transport.close)

        def handle_events(self) -> None:
            super().handle_events()
            if self._asked():
                self._forget()

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget()
            super().connection_lost(exc)

        def _asked(self) -> bool:
            """Whether a request is being read or answered."""
            return self.cycle is not None and not self.cycle.response_complete

        def _forget(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

    return Impatient
