"""Retries, redirects and hosts that do not answer."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.downloads import DATA, QUICK, SHA, closed_address, refused, without_proxies
from tests.support.faulty_server import (
    Faulty,
    redirect,
    serving,
    status,
    whole,
)
from yourbert.core.errors import UserError
from yourbert.core.filenames import shown
from yourbert.download.fetch import fetch, probe
from yourbert.download.http import Patience, next_hop, refuse_local


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


def test_at_most_five_tries_one_line_each(server: Faulty, target: Path, lines: pytest.LogCaptureFixture) -> None:
    line = refused("W03", server.plan("/f", status(500)), target)
    assert "500" in line and len(server.requests) == 5
    assert len([r for r in lines.messages if "try " in r]) == 4


def test_503_twice_then_the_file(server: Faulty, target: Path, lines: pytest.LogCaptureFixture) -> None:
    fetch(server.plan("/f", status(503), status(503), whole(DATA)), target, patience=QUICK)
    assert len(server.requests) == 3 and len([r for r in lines.messages if "503" in r]) == 2


def test_retry_after_is_honoured(server: Faulty, target: Path) -> None:
    started = time.monotonic()
    fetch(server.plan("/f", status(429, Retry_After="1"), whole(DATA)), target, patience=QUICK)
    assert 1.0 <= time.monotonic() - started < 8


def test_retry_after_an_hour_is_an_error_at_once(server: Faulty, target: Path) -> None:
    started = time.monotonic()
    line = refused("W03", server.plan("/f", status(429, Retry_After="3600")), target)
    assert "wait 3600 s" in line and time.monotonic() - started < 8
    assert len(server.requests) == 1


def test_pauses_double_up_to_a_limit(monkeypatch: pytest.MonkeyPatch, server: Faulty, target: Path) -> None:
    slept: list[float] = []
    monkeypatch.setattr("yourbert.download.http.time.sleep", slept.append)
    refused("W03", server.plan("/f", status(502)), target, patience=Patience(longest_wait=3.0))
    assert slept == [1.0, 2.0, 3.0, 3.0]


@pytest.mark.parametrize("code", [404, 410, 401, 403, 400])
def test_a_refusal_is_not_retried(server: Faulty, target: Path, code: int) -> None:
    line = refused("W01", server.plan("/f", status(code)), target)
    assert str(code) in line and len(server.requests) == 1 and not list(target.parent.iterdir())


def test_redirects_are_followed(server: Faulty, target: Path) -> None:
    server.plan("/end", whole(DATA))
    server.plan("/mid", redirect("/end", 307))
    fetch(server.plan("/f", redirect(f"{server.address}/mid")), target, patience=QUICK)
    assert target.read_bytes() == DATA


@pytest.mark.parametrize(
    ("to", "why"),
    [
        ("file:///etc/passwd", "only http and https"),
        ("ftp://example.org/f", "only http and https"),
        ("http://169.254.169.254/latest/meta-data", "local address"),
        ("http://[fe80::1]/f", "local address"),
        ("http://[::ffff:169.254.169.254]/f", "local address"),
        ("http://2852039166/f", "local address"),
        ("http://user:word@127.0.0.1/f", "user name"),
        ("http://127.0.0.1:99999/f", "no address"),
        ("/f", "loop"),
    ],
)
def test_a_redirect_to_the_wrong_place(server: Faulty, target: Path, to: str, why: str) -> None:
    line = refused("W07", server.plan("/f", redirect(to)), target)
    assert why in line and "word" not in line and len(server.requests) == 1


def test_a_chain_of_redirects_ends(server: Faulty, target: Path) -> None:
    for i in range(9):
        server.plan(f"/{i}", redirect(f"/{i + 1}"))
    assert "more than 5" in refused("W07", f"{server.address}/0", target)
    assert len(server.requests) == 6


def test_no_redirect_leaves_the_encrypted_connection() -> None:
    assert next_hop(["https://a.org/x"], "//b.org/y") == "https://b.org/y"
    with pytest.raises(UserError, match=r"YB-W07 .*encrypted"):
        next_hop(["https://a.org/x"], "http://a.org/x")


def test_public_and_private_addresses_are_allowed() -> None:
    refuse_local(["93.184.216.34", "10.0.0.1", "127.0.0.1", "::1", "a.org"], "http://a.org")


def test_secrets_stay_with_the_first_host(server: Faulty, target: Path) -> None:
    with serving() as other:
        to = other.plan("/f", whole(DATA))
        url = server.plan("/f", redirect("/g"))
        server.plan("/g", redirect(to))
        fetch(url, target, secrets={"Authorization": "Bearer word"}, patience=QUICK)
        assert [r.headers.get("authorization") for r in server.requests] == ["Bearer word"] * 2
        assert "authorization" not in other.requests[0].headers


def test_messages_hide_secrets_in_addresses(server: Faulty, target: Path) -> None:
    url = server.plan("/f", status(404)).replace("http://", "http://user:word@") + "?signature=word2"
    line = refused("W01", url, target)
    assert "word" not in line and "/f?…" in line
    assert shown("http://a.org/\x1b[31m") == "http://a.org/\\x1b[31m"


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://a.org/f", "http://", "http://a:b/f", "f"])
def test_what_is_no_web_address(target: Path, url: str) -> None:
    refused("W01", url, target)


def test_a_closed_port_is_noticed_at_once(target: Path) -> None:
    started = time.monotonic()
    line = refused("W03", f"{closed_address()}/f", target, patience=Patience())
    assert "unreachable" in line and time.monotonic() - started < 8


def test_an_unknown_host_is_noticed(target: Path) -> None:
    started = time.monotonic()
    refused("W03", "http://no-such-host.invalid/f", target, patience=Patience())
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("silent", ["getaddrinfo", "create_connection"])
def test_silence_is_noticed_within_the_time(monkeypatch: pytest.MonkeyPatch, target: Path, silent: str) -> None:
    """A name service or a host that swallows packets; several addresses do not add up."""
    real = socket.getaddrinfo

    def addresses(*args: Any, **settings: Any) -> Any:
        return real("127.0.0.1", 80, type=socket.SOCK_STREAM) * 6

    monkeypatch.setattr(socket, "getaddrinfo", addresses)
    over = threading.Event()

    def silence(*args: Any, **settings: Any) -> Any:
        over.wait(20)
        raise OSError("too late")

    monkeypatch.setattr(socket, silent, silence)
    started = time.monotonic()
    refused("W03", "http://a.org/f", target, patience=Patience(connect=0.5, unreachable=0.8))
    assert time.monotonic() - started < 2.5
    over.set()


def test_probe_gives_the_headers_of_the_first_hop(server: Faulty) -> None:
    with serving() as other:
        to = other.plan("/f", whole(DATA, etag='"cdn"'))
        url = server.plan("/f", redirect("/g", 307, X_Repo_Commit="c" * 40))
        server.plan("/g", redirect(to, ETag='"here"'))
        headers = probe(url, patience=QUICK)
        assert (headers["x-repo-commit"], headers["etag"]) == ("c" * 40, '"here"')
        assert not other.requests and all(r.method == "HEAD" for r in server.requests)


def test_probe_refuses_what_is_not_there(server: Faulty) -> None:
    with pytest.raises(UserError, match="YB-W01"):
        probe(server.plan("/f", status(404)), patience=QUICK)


@pytest.mark.parametrize("redirected", [False, True])
def test_a_proxy_looks_up_the_names(
    server: Faulty, target: Path, monkeypatch: pytest.MonkeyPatch, redirected: bool
) -> None:
    monkeypatch.setenv("http_proxy", server.address)
    server.scripts["http://no-such-host.invalid/f"] = [redirect("/g")] if redirected else [whole(DATA)]
    server.scripts["http://no-such-host.invalid/g"] = [whole(DATA)]
    fetch("http://no-such-host.invalid/f", target, sha256=SHA, patience=QUICK)


def test_a_proxy_that_is_not_there(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", closed_address())
    started = time.monotonic()
    refused("W03", "http://a.org/f", target)
    assert time.monotonic() - started < 8
