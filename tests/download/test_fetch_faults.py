"""Full disks, kills and two processes: what a download leaves behind is never taken for the file."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from tests.support.downloads import BUFFER, DATA, QUICK, SHA, only, part_of, refused, without_proxies
from tests.support.faulty_server import (
    Faulty,
    serving,
    slow,
    whole,
)
from yourbert.core.storage import sha256_of
from yourbert.download.fetch import fetch


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    without_proxies(monkeypatch)


@pytest.fixture
def server() -> Iterator[Faulty]:
    with serving() as faulty:
        yield faulty


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "there" / "file.bin"


@pytest.fixture(autouse=True)
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="yourbert")
    return caplog


class FullDisk:
    """A file that takes some bytes and no more."""

    def __init__(self, file: IO[bytes], room: int) -> None:
        self.file, self.room = file, room

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, chunk: bytes) -> int:
        self.room -= len(chunk)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(chunk)


def test_a_disk_that_fills_up(monkeypatch: pytest.MonkeyPatch, server: Faulty, target: Path) -> None:
    real = Path.open

    def opened(path: Path, mode: str = "r", *args: Any, **settings: Any) -> Any:
        file = real(path, mode, *args, **settings)
        return FullDisk(file, 100_000) if mode == "ab" else file

    url = server.plan("/f", slow(DATA, 50_000, 0, 50_000))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", opened)
        assert "No space left" in refused("R07", url, target, sha256=SHA)
    fetch(url, target, sha256=SHA, patience=QUICK)
    assert target.read_bytes() == DATA


def test_a_disk_that_is_too_small_is_noticed_before(
    monkeypatch: pytest.MonkeyPatch, server: Faulty, target: Path
) -> None:
    monkeypatch.setattr("yourbert.download.fetch.shutil.disk_usage", lambda path: Usage)
    line = refused("R07", server.plan("/f", whole(DATA)), target)
    assert "needs 300000 bytes" in line and "has 1000" in line and not part_of(target).exists()


class Usage:
    free = 1000


def test_file_size_limits_of_the_system(server: Faulty, target: Path, tmp_path: Path) -> None:
    """EFBIG from the kernel itself, in a process of its own."""
    url = server.plan("/f", whole(DATA))
    script = f"""
import resource, signal, pathlib
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
from yourbert.core.errors import exit_cleanly
from yourbert.download.fetch import fetch
exit_cleanly(lambda: fetch({url!r}, pathlib.Path({str(target)!r}), sha256={SHA!r}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert done.returncode == 7 and "YB-R07" in done.stderr and "Traceback" not in done.stderr
    assert not target.exists()


def fetching(url: str, target: Path) -> subprocess.Popen[str]:
    """A process that fetches with patience and prints how much came over the network."""
    script = f"""
import logging, pathlib
logging.basicConfig(level=logging.INFO)
from yourbert.download.fetch import fetch
print(fetch({url!r}, pathlib.Path({str(target)!r}), sha256={SHA!r}).transferred)
"""
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", script], stdout=pipe, stderr=pipe, text=True)


def wait_for(condition: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@pytest.mark.parametrize("at", [0, 60_000, 290_000])
def test_a_killed_download_resumes(server: Faulty, target: Path, at: int) -> None:
    url = server.plan("/f", slow(DATA, at, pause=60, step_bytes=1), whole(DATA))
    with fetching(url, target) as process:
        wait_for(lambda: server.requests and (not at or (part_of(target).exists() and holds(target) >= at - BUFFER)))
        process.send_signal(signal.SIGKILL)
    assert not target.exists()
    kept = holds(target)
    again = fetch(url, target, sha256=SHA, patience=QUICK)
    assert sha256_of(target) == SHA and again.transferred == len(DATA) - kept
    assert not part_of(target).exists() and kept >= at - BUFFER


def holds(target: Path) -> int:
    """Bytes in the part. The writer's buffer may keep a few back, so this is what a kill leaves."""
    return part_of(target).stat().st_size if part_of(target).exists() else 0


def test_a_kill_between_the_last_byte_and_the_rename_costs_nothing(
    server: Faulty, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.plan("/f", whole(DATA))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("yourbert.download.fetch.Identity.of", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
        fetch(url, target, sha256=SHA, patience=QUICK)
    assert fetch(url, target, sha256=SHA, patience=QUICK).transferred == 0
    assert len(server.requests) == 1 and sha256_of(target) == SHA and only(target)


def test_two_processes_fetch_one_file_once(server: Faulty, target: Path) -> None:
    url = server.plan("/f", slow(DATA, 1000, pause=0.1, step_bytes=30_000))
    with fetching(url, target) as first, fetching(url, target) as second:
        out = [process.communicate(timeout=30) for process in (first, second)]
    assert sorted(int(stdout) for stdout, _ in out) == [0, len(DATA)]
    assert sha256_of(target) == SHA and server.sent["/f"] == len(DATA) and only(target)
    waited = next(stderr for stdout, stderr in out if int(stdout) == 0)
    assert f"waiting for process {first.pid}" in waited or f"waiting for process {second.pid}" in waited


def test_no_locks_on_the_file_system(monkeypatch: pytest.MonkeyPatch, server: Faulty, target: Path) -> None:
    """Then every process has a part of its own, and the last one to finish places its whole file."""

    def broken(*args: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("yourbert.core.locks.fcntl.flock", broken)
    fetch(server.plan("/f", whole(DATA)), target, sha256=SHA, patience=QUICK)
    assert target.read_bytes() == DATA and only(target)
