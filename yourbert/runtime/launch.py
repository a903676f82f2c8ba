"""Launches a stage on several ranks: one process per rank, with the exit code of the rank that fails.

torchrun may be used instead; it sets the same environment variables. But when a rank fails, it prints a table and exits
with code 1, where users of DVC need the one line of that rank and scripts its exit code. And when torchrun is killed,
its ranks keep running and keep the lock of the run.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import IO, NoReturn

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from yourbert.config.params import read_params
from yourbert.config.schema import Params
from yourbert.core.errors import fail
from yourbert.runtime.distributed import AGAIN, launched
from yourbert.runtime.machine import find_device

LOOPBACK = "127.0.0.1"
POLL_INTERVAL_S = 0.1
# Ranks that fail for the same reason fail at about the same time; the error of the first rank is then shown.
SETTLE_S = 0.5
TERMINATE_TIMEOUT_S = 10.0
# Linux: the signal that a process gets when its parent ends.
PR_SET_PDEATHSIG = 1
PARENT = "YOURBERT_LAUNCHER"


def in_ranks(stage: Callable[..., None], wanted: Callable[[Params], int]) -> Callable[..., None]:
    """The stage as a program that runs in `wanted(params)` processes; under torchrun, in those that it started."""

    def start(*words: str) -> None:
        params = read_params()
        ranks = wanted(params)
        if launched():
            _end_with_parent()
            stage(*words)
        elif ranks == 1:
            stage(*words)
        else:
            find_device(params.device, ranks)
            launch([sys.executable, *sys.orig_argv[1:]], ranks)

    return start


def launch(command: Sequence[str], ranks: int) -> None:
    """Runs `command` on `ranks` ranks of this machine. Raises UserError (X01) if one of them is killed.

    If a rank fails, prints its error, ends the other ranks and exits with its exit code.
    """
    with ExitStack() as stack:
        store = _open_store()
        shared = {**os.environ, "MASTER_ADDR": LOOPBACK, "MASTER_PORT": str(store.port), PARENT: str(os.getpid())}
        shared |= {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks), "TORCHELASTIC_USE_AGENT_STORE": "True"}
        if sys.platform == "linux":
            shared.setdefault("GLOO_SOCKET_IFNAME", "lo")
        # The output of the other ranks repeats that of the first; it is shown only if one of them fails alone.
        said = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(1, ranks)]
        children: list[subprocess.Popen[bytes]] = []
        stack.callback(_end, children)
        for rank, output in enumerate([None, *said]):
            children.append(_start(command, shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, output))
        codes = _watch(children)
        failed = [(code > 0, code == 9, rank, code) for rank, code in enumerate(codes) if code]
        if failed:
            *_, rank, code = min(failed)  # a kill is a cause, "a rank stopped" (9) a consequence
            if code < 0:
                _tell_signal(rank, -code, [rank for rank, code in enumerate(codes) if code is None])
            _pass_on(code, None if rank == 0 else said[rank - 1])


def _open_store() -> TCPStore:
    """The key-value store by which the ranks connect; it listens on the loopback address only."""
    listening = socket.create_server((LOOPBACK, 0))
    port = listening.getsockname()[1]
    return TCPStore(LOOPBACK, port, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach())


def _start(command: Sequence[str], env: Mapping[str, str], output: IO[bytes] | None) -> subprocess.Popen[bytes]:
    """Starts a rank in its own session, so that Ctrl-C reaches only the launcher, which then ends the ranks."""
    return subprocess.Popen(command, env=env, stdout=output, stderr=output, start_new_session=True)


def _watch(children: Sequence[subprocess.Popen[bytes]]) -> list[int | None]:
    """Waits until all ranks have succeeded or one has failed; returns their exit codes, None for running ones."""
    while None in (codes := [child.poll() for child in children]) and not any(codes):
        time.sleep(POLL_INTERVAL_S)
    if any(codes):
        time.sleep(SETTLE_S)
    return [child.poll() for child in children]


def _tell_signal(rank: int, number: int, running: Sequence[int]) -> NoReturn:
    what = f"it was ended by {signal.Signals(number).name}"
    if number == signal.SIGABRT and running:
        # NCCL aborts a rank whose wait timed out, while the rank that hangs keeps running.
        what += f", while these were still running or hung: {', '.join(map(str, running))}"
    fail("X01", what, where=f"rank {rank}", fix=AGAIN)


def _pass_on(code: int, said: IO[bytes] | None) -> NoReturn:
    if said is not None:
        said.seek(0)
        sys.stderr.write(said.read().decode(errors="replace"))
    sys.exit(code)


def _end(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ends all ranks: SIGTERM, then SIGKILL after a timeout, since a stopped process reacts to nothing else."""
    for child in children:
        child.terminate()
    end = time.monotonic() + TERMINATE_TIMEOUT_S
    for child in children:
        try:
            child.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _end_with_parent() -> None:
    """Ends this rank when its launcher is killed; otherwise it would keep the lock of the run."""
    parent = os.environ.get(PARENT)
    if parent is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if str(os.getppid()) != parent:
        sys.exit(128 + signal.SIGTERM)
