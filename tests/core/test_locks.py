"""One process at a time: whoever starts, ends or is killed meanwhile."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from yourbert.core import locks
from yourbert.core.errors import UserError
from yourbert.core.locks import acquire, lock_of, owner
from yourbert.training.checkpoint import Resume

pytestmark = pytest.mark.integration

TRIES, PROCESSES = 50, 4


def competes(folder: Path, seed: int) -> None:
    """Trains, so to speak, as often as it is let; raises FileExistsError when it meets somebody else at it."""
    chance, done = random.Random(seed), 0
    while done < TRIES:
        with contextlib.suppress(UserError), Resume(folder):
            os.close(os.open(folder.with_name("writer"), os.O_CREAT | os.O_EXCL))
            time.sleep(chance.uniform(0, 0.0005))
            folder.with_name("writer").unlink()
            done += 1


def forked(what: Callable[[], object]) -> int:
    """Does it in a process of its own, whose number this is; it exits with 1 where it fails."""
    if child := os.fork():
        return child
    try:
        what()
        os._exit(0)
    finally:
        os._exit(1)


def test_runs_that_start_as_others_end_never_write_at_once(tmp_path: Path) -> None:
    """50 times each, four processes take and leave the state of one run: it vanishes and comes under their hands."""
    children = [forked(partial(competes, tmp_path / "run", seed)) for seed in range(PROCESSES)]
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * PROCESSES
    assert list(tmp_path.iterdir()) == [], "neither state nor lock is left"


def test_a_killed_process_lets_go(tmp_path: Path) -> None:
    path = lock_of(tmp_path / "run")
    child = forked(lambda: (acquire(path), time.sleep(60)))
    while not owner(path):
        time.sleep(0.01)
    assert owner(path) == f"process {child}" and acquire(path) is None
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    mine = acquire(path)
    assert mine is not None and owner(path) == f"process {os.getpid()}"
    mine.release()
    assert list(tmp_path.iterdir()) == [] and owner(path) == ""


def test_without_locks_nobody_is_kept_out_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    caplog.set_level("INFO", "yourbert")
    with Resume(tmp_path / "run"), Resume(tmp_path / "run"):
        pass
    assert "no locks on this file system" in caplog.text
