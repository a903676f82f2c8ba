"""Downloads from a server that fails in every way: nothing wrong ever gets the final name."""

from __future__ import annotations

import hashlib
import logging
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.downloads import BLOB, DATA, QUICK, SHA, SLACK, aside, only, part_of, refused, without_proxies
from tests.support.faulty_server import (
    HTML,
    Faulty,
    cut,
    cut_chunked,
    packed,
    page,
    serving,
    slow,
    status,
    whole,
    wrong_length,
)
from yourbert.core.storage import sha256_of
from yourbert.download.fetch import fetch
from yourbert.download.http import Patience
from yourbert.download.store import Identity


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


@pytest.mark.parametrize("known", [{}, {"sha256": SHA}, {"git_blob": BLOB}, {"size": len(DATA)}], ids=str)
def test_a_file_is_fetched_and_verified(server: Faulty, target: Path, known: dict[str, Any]) -> None:
    fetched = fetch(server.plan("/f", whole(DATA)), target, **known, patience=QUICK)
    assert target.read_bytes() == DATA and only(target)
    assert (fetched.sha256, fetched.size, fetched.transferred, fetched.etag) == (SHA, len(DATA), len(DATA), '"v1"')


def test_an_empty_file_is_a_file(server: Faulty, target: Path) -> None:
    assert fetch(server.plan("/f", whole(b"")), target, patience=QUICK).size == 0


def test_a_file_that_is_there_costs_no_request(server: Faulty, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(DATA)
    assert fetch(server.plan("/f", status(500)), target, sha256=SHA, patience=QUICK).transferred == 0
    assert not server.requests


def test_a_damaged_file_is_replaced(server: Faulty, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(DATA[:-1] + b"?")
    fetch(server.plan("/f", whole(DATA)), target, sha256=SHA, patience=QUICK)
    assert sha256_of(target) == SHA


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_cut_body_resumes_with_the_rest_only(server: Faulty, target: Path, share: float) -> None:
    at = int(share * len(DATA))
    url = server.plan("/f", cut(DATA, at), whole(DATA))
    assert fetch(url, target, sha256=SHA, patience=QUICK).transferred == len(DATA)
    assert target.read_bytes() == DATA
    assert server.sent["/f"] <= len(DATA) + SLACK
    assert server.gets("/f")[1].headers["range"] == f"bytes={at}-"
    assert server.gets("/f")[1].headers["if-range"] == '"v1"'


def test_it_also_resumes_without_a_hash(server: Faulty, target: Path) -> None:
    fetch(server.plan("/f", cut(DATA, 1000), cut(DATA, 150_000), whole(DATA)), target, patience=QUICK)
    assert target.read_bytes() == DATA and server.sent["/f"] == len(DATA)


def test_a_cut_chunked_body_is_noticed_and_resumes(server: Faulty, target: Path) -> None:
    fetch(server.plan("/f", cut_chunked(DATA, 100_000), whole(DATA)), target, sha256=SHA, patience=QUICK)
    assert target.read_bytes() == DATA and server.sent["/f"] <= len(DATA) + SLACK


def test_a_chunked_body_without_a_length_is_whole(server: Faulty, target: Path) -> None:
    fetch(server.plan("/f", cut_chunked(DATA, len(DATA))), target, patience=QUICK)
    assert target.read_bytes() == DATA


def test_a_body_cut_for_ever_keeps_the_part_for_the_next_run(
    server: Faulty, target: Path, lines: pytest.LogCaptureFixture
) -> None:
    url = server.plan("/f", cut(DATA, 200_000))
    line = refused("W04", url, target, sha256=SHA)
    assert "200000 of 300000 bytes" in line and "5 tries" in line and url in line
    assert part_of(target).stat().st_size == 200_000
    server.plan("/f", whole(DATA))
    assert fetch(url, target, sha256=SHA, patience=QUICK).transferred == 100_000
    assert target.read_bytes() == DATA and only(target)
    assert "resuming at 67 %" in lines.text


def test_a_stall_is_dropped_and_resumed(server: Faulty, target: Path) -> None:
    url = server.plan("/f", slow(DATA, 100_000, pause=30, step_bytes=1000), whole(DATA))
    started = time.monotonic()
    fetch(url, target, sha256=SHA, patience=QUICK)
    assert time.monotonic() - started < 10 and server.sent["/f"] <= len(DATA) + SLACK


def test_a_drip_is_too_slow(server: Faulty, target: Path) -> None:
    url = server.plan("/f", slow(DATA, 1000, pause=0.02, step_bytes=1))
    started = time.monotonic()
    line = refused("W06", url, target)
    assert "below 20000 bytes/s" in line and time.monotonic() - started < 12


def test_no_answer_at_all_is_too_slow(server: Faulty, target: Path) -> None:
    url = server.plan("/f", lambda to: time.sleep(2))
    assert "no answer for" in refused("W06", url, target, patience=Patience(idle=0.2, first_wait=0.01))


def test_wrong_bytes_once_are_fetched_afresh(server: Faulty, target: Path) -> None:
    other = bytes(len(DATA))
    fetch(server.plan("/f", whole(other), whole(DATA)), target, sha256=SHA, patience=QUICK)
    assert target.read_bytes() == DATA and len(server.requests) == 2 and only(target)
    assert server.requests[1].headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("known", [{"sha256": SHA}, {"git_blob": BLOB}], ids=str)
def test_wrong_bytes_twice_are_put_aside(server: Faulty, target: Path, known: dict[str, str]) -> None:
    other = bytes(len(DATA))
    line = refused("W05", server.plan("/f", whole(other)), target, **known)
    identity = hashlib.sha256(other).hexdigest() if "sha256" in known else Identity.of(aside(target)).git_blob
    assert next(iter(known.values())) in line and identity in line
    assert len(server.requests) == 2
    assert aside(target).read_bytes() == other and [p for p in target.parent.iterdir()] == [aside(target)]


def test_a_wrong_size_is_refused(server: Faulty, target: Path) -> None:
    line = refused("W04", server.plan("/f", whole(DATA[:-1])), target, size=len(DATA))
    assert "299999 bytes in place of 300000" in line


def test_more_bytes_than_the_file_has_are_not_read(server: Faulty, target: Path) -> None:
    refused("W04", server.plan("/f", whole(DATA * 50)), target, size=1000)
    assert aside(target).stat().st_size < 1_000_000


@pytest.mark.parametrize("known", [{}, {"sha256": SHA}, {"size": 5}], ids=str)
def test_a_web_page_is_not_a_file(server: Faulty, target: Path, known: dict[str, Any]) -> None:
    assert "a web page" in refused("W12", server.plan("/f", page()), target, **known)


def test_a_web_page_that_is_the_wanted_file_is_fine(server: Faulty, target: Path) -> None:
    fetch(server.plan("/f", page()), target, sha256=hashlib.sha256(HTML).hexdigest(), patience=QUICK)


def test_a_new_version_is_never_mixed_with_the_old(
    server: Faulty, target: Path, lines: pytest.LogCaptureFixture
) -> None:
    new = random.Random(1).randbytes(len(DATA))
    fetch(server.plan("/f", cut(DATA, 100_000), whole(new, etag='"v2"')), target, patience=QUICK)
    assert target.read_bytes() == new and "starting again" in lines.text


def test_a_server_that_ignores_if_range_is_found_out(server: Faulty, target: Path) -> None:
    new = random.Random(1).randbytes(len(DATA))

    def careless(to: Any) -> None:
        to.head(206, Content_Range=f"bytes 100000-299999/{len(new)}", Content_Length=200_000, ETag='"v2"')
        to.body(new[100_000:])

    fetch(server.plan("/f", cut(DATA, 100_000), careless, whole(new, etag='"v2"')), target, patience=QUICK)
    assert target.read_bytes() == new


def test_another_length_behind_the_same_etag_is_found_out(server: Faulty, target: Path) -> None:
    new = random.Random(1).randbytes(400_000)
    fetch(server.plan("/f", cut(DATA, 100_000), whole(new)), target, patience=QUICK)
    assert target.read_bytes() == new


def test_a_part_that_is_not_ours_is_not_continued(server: Faulty, target: Path) -> None:
    target.parent.mkdir()
    part_of(target).write_bytes(b"old" * 1000)
    fetch(server.plan("/f", whole(DATA)), target, patience=QUICK)
    assert target.read_bytes() == DATA and "range" not in server.requests[0].headers


def test_ignored_ranges_start_again(server: Faulty, target: Path, lines: pytest.LogCaptureFixture) -> None:
    fetch(server.plan("/f", cut(DATA, 100_000), whole(DATA, ranges=False)), target, patience=QUICK)
    assert target.read_bytes() == DATA and "starting again" in lines.text


def test_416_starts_again(server: Faulty, target: Path, lines: pytest.LogCaptureFixture) -> None:
    fetch(server.plan("/f", cut(DATA, 100_000), status(416), whole(DATA)), target, patience=QUICK)
    assert target.read_bytes() == DATA and "starting again" in lines.text


def test_without_etag_and_hash_nothing_is_continued(server: Faulty, target: Path) -> None:
    fetch(server.plan("/f", cut(DATA, 100_000, etag=""), whole(DATA, etag="")), target, patience=QUICK)
    assert target.read_bytes() == DATA and "range" not in server.requests[1].headers


def test_without_etag_the_hash_allows_to_continue(server: Faulty, target: Path) -> None:
    url = server.plan("/f", cut(DATA, 100_000, etag=""), whole(DATA, etag=""))
    fetch(url, target, sha256=SHA, patience=QUICK)
    assert target.read_bytes() == DATA and server.sent["/f"] == len(DATA)


def test_gzip_that_nobody_asked_for_is_undone(server: Faulty, target: Path) -> None:
    text = b"one\ttwo\n" * 20_000
    fetch(server.plan("/f", packed(text)), target, sha256=hashlib.sha256(text).hexdigest(), patience=QUICK)
    assert target.read_bytes() == text
    assert server.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("promise_all", [True, False])
def test_cut_gzip_is_noticed_and_not_continued(server: Faulty, target: Path, promise_all: bool) -> None:
    text = b"one\ttwo\n" * 20_000
    fetch(server.plan("/f", packed(text, 100, promise_all), whole(text)), target, patience=QUICK)
    assert target.read_bytes() == text and "range" not in server.requests[1].headers


def test_a_length_that_is_too_long(server: Faulty, target: Path) -> None:
    """The bytes are all there: with a hash that is enough, without one it is a cut file."""
    url = server.plan("/f", wrong_length(DATA, len(DATA) + 10))
    fetch(url, target, sha256=SHA, patience=QUICK)
    target.unlink()
    fetch(url, target, patience=QUICK)  # the server's 416 says that there is no more
    assert target.read_bytes() == DATA


def test_progress_lines(
    server: Faulty, target: Path, lines: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yourbert.download.fetch.SECONDS_BETWEEN_LINES", 0.0)
    fetch(server.plan("/f", whole(DATA)), target, patience=QUICK)
    assert "file.bin: 0.3 of 0.3 MB" in lines.text


def test_a_bar_on_a_terminal(
    server: Faulty, target: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("yourbert.download.fetch.sys.stderr.isatty", lambda: True)
    fetch(server.plan("/f", whole(DATA)), target, patience=QUICK)
    shown = capsys.readouterr()
    assert "file.bin" in shown.err and "300k/300k" in shown.err and not shown.out
