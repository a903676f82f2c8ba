"""Downloads from a server that fails in every way: retries are logged, and a bad file never gets the final name."""

from __future__ import annotations

import errno
import gzip
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.closure import ROOT
from tests.support.faulty_server import Faulty, Handler, closed_address, cut, redirect, status, whole
from yourbert.core.errors import UserError
from yourbert.core.filenames import shown
from yourbert.download import web
from yourbert.download.web import fetch, git_blob_of

DATA = random.Random(0).randbytes(300_000)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "there" / "file.bin"


def refused(code: str, url: str, target: Path, *more: str) -> str:
    """The one line of the refusal; nothing is left in the target's folder."""
    with pytest.raises(UserError) as caught:
        fetch(url, target, *more)
    assert [p.code for p in caught.value.problems] == [code], caught.value.lines()
    assert not target.parent.exists() or not list(target.parent.iterdir())
    (line,) = caught.value.lines()
    assert line.isprintable()
    return line


def test_a_file_is_fetched_and_replaces_another(server: Faulty, target: Path) -> None:
    server.plan("/end", whole(DATA))
    url = server.plan("/f", redirect("/end", 307))
    for _ in range(2):
        fetch(url, target)
        assert target.read_bytes() == DATA and [p.name for p in target.parent.iterdir()] == ["file.bin"]
        target.write_bytes(b"another")


@pytest.mark.parametrize("failing", [status(503), status(429), cut(DATA, 1000)], ids=["503", "429", "cut"])
def test_what_passes_is_tried_again(
    server: Faulty, target: Path, slept: list[float], caplog: pytest.LogCaptureFixture, failing: Any
) -> None:
    fetch(server.plan("/f", failing, failing, whole(DATA)), target)
    assert target.read_bytes() == DATA and slept == [1, 2]
    assert len([m for m in caplog.messages if server.address in m]) == 2


@pytest.mark.parametrize(
    ("failing", "why"), [(status(500), "500"), (cut(DATA, 1000), "IncompleteRead")], ids=["500", "cut"]
)
def test_retries_are_limited(server: Faulty, target: Path, slept: list[float], failing: Any, why: str) -> None:
    line = refused("W03", server.plan("/f", failing), target)
    assert why in line and "4 attempts" in line and len(server.requests) == 4 and slept == [1, 2, 3]


@pytest.mark.parametrize("code", [404, 410, 401, 403, 400])
def test_a_refusal_is_not_retried(server: Faulty, target: Path, code: int) -> None:
    url = server.plan("/f", status(code)).replace("http://", "http://user:word@") + "?signature=word2"
    line = refused("W01", url, target)
    assert str(code) in line and len(server.requests) == 1
    assert "word" not in line and "/f?…" in line, "secrets in an address are not shown"
    assert shown("http://a.org/\x1b[31m") == "http://a.org/\\x1b[31m"


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://example.org/f", "http://127.0.0.1:99999/f"])
def test_a_redirect_to_the_wrong_place(server: Faulty, target: Path, slept: list[float], to: str) -> None:
    refused("W01", server.plan("/f", redirect(to)), target)
    assert len(server.requests) == 1


def test_redirects_in_a_circle_end(server: Faulty, target: Path) -> None:
    assert "30 redirects" in refused("W01", server.plan("/f", redirect("/f")), target)


def test_an_unreachable_host_costs_seconds(target: Path, slept: list[float]) -> None:
    started = time.monotonic()
    assert "refused" in refused("W03", f"{closed_address()}/f", target)
    assert time.monotonic() - started < 5 and slept == [1, 2, 3]


def test_silence_is_noticed(server: Faulty, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "READ_TIMEOUT_S", 0.1)
    monkeypatch.setattr(web, "RETRIES", 0)
    url = server.plan("/f", lambda to: time.sleep(2))
    assert "timed out" in refused("W03", url, target)


def test_other_content_is_refused_and_not_kept(server: Faulty, target: Path, tmp_path: Path) -> None:
    (tmp_path / "right").write_bytes(DATA)
    blob = git_blob_of(tmp_path / "right")
    assert blob in refused("W05", server.plan("/f", whole(bytes(300_000))), target, blob)
    assert len(server.requests) == 1
    fetch(server.plan("/f", whole(DATA)), target, blob)


def test_a_proxy_looks_up_the_names(server: Faulty, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.address)
    server.scripts["http://no-such-host.invalid/f"] = [whole(DATA)]
    fetch("http://no-such-host.invalid/f", target)
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("encoded", [False, True])
def test_a_gzip_file_stays_one_and_a_packed_body_is_unpacked(server: Faulty, target: Path, encoded: bool) -> None:
    packed = gzip.compress(DATA)
    url = server.plan("/f.gz", whole(packed, **({"Content_Encoding": "gzip"} if encoded else {})))
    fetch(url, target)
    assert target.read_bytes() == (DATA if encoded else packed)
    assert server.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.integration
def test_a_killed_download_begins_anew(server: Faulty, target: Path) -> None:
    sent = threading.Event()

    def half(to: Handler) -> None:
        cut(DATA, 100_000)(to)
        sent.set()
        time.sleep(10)

    url = server.plan("/f", half, whole(DATA))
    code = f"import pathlib; from yourbert.download.web import fetch; fetch({url!r}, pathlib.Path({str(target)!r}))"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as process:
        assert sent.wait(30)
        process.kill()
    assert not target.exists() and list(target.parent.iterdir()), "something was left"
    fetch(url, target)
    assert target.read_bytes() == DATA and list(target.parent.iterdir()) == [target]


def test_a_disk_that_fills_up(server: Faulty, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", full)
    assert "No space left" in refused("R07", server.plan("/f", whole(DATA)), target)


def test_a_cache_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(UserError, match="YB-R07"):
        fetch("http://127.0.0.1/f", tmp_path / "f" / "cache" / "f")


def test_a_bar_on_a_terminal(
    server: Faulty, target: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("yourbert.download.web.sys.stderr.isatty", lambda: True)
    fetch(server.plan("/f", whole(DATA)), target)
    output = capsys.readouterr()
    assert "300k/300k" in output.err and not output.out
