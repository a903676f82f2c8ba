"""Large requests, slow clients and many texts: S01, S04, S05."""

from __future__ import annotations

import time

import pytest
import requests

from tests.deploy.serve.conftest import HEAD, error, mood
from tests.support.serve_process import Service
from yourbert.deploy.serve.limits import Limits

pytestmark = pytest.mark.integration


def test_s01_a_large_body(service: Service) -> None:
    before = service.resident()
    refused = error(service.ask("predict", mood(["x" * (10 << 20)])), 413, "S01")
    assert str(Limits().max_body_bytes) in refused["message"]
    parts = iter([b'{"texts": ["'] + [b"x" * 65536] * 160)
    headers = {"Content-Type": "application/json"}
    response = requests.post(service.url("predict"), data=parts, headers=headers, timeout=60)
    error(response, 413, "S01")
    assert service.resident() - before < 30 << 20


def test_s04_many_texts(service: Service) -> None:
    assert str(Limits().max_texts) in error(service.ask("predict", mood(["a"] * 10_000)), 413, "S04")["message"]
    assert len(service.ask("predict", mood(["a"] * Limits().max_texts)).json()["predictions"]) == Limits().max_texts


SLOW: dict[str, bytes] = {
    "nothing": b"",
    "half a head": b"POST /predict HTTP/1.1\r\nHost: localhost\r\n",
    "half a body": HEAD.format(9).encode() + b"{",
    "half of the second head": b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /hea",
}


@pytest.mark.parametrize("sent", SLOW)
def test_s05_a_slow_client(service: Service, sent: str) -> None:
    """The limit is 2 seconds here. Others are served meanwhile."""
    with service.connect() as slow:
        began = time.monotonic()
        slow.sendall(SLOW[sent])
        assert service.ask("predict", mood(["a"])).ok
        got = b""
        while part := slow.recv(4096):
            got += part
        assert time.monotonic() - began < 15
        assert (b" 408 " in got) == (sent == "half a body")


def test_s05_drops_of_a_head_do_not_help(service: Service) -> None:
    with service.connect() as slow:
        began = time.monotonic()
        with pytest.raises(OSError):
            for _ in range(100):
                slow.sendall(b"X")
                time.sleep(0.1)
                slow.settimeout(0.01)
                try:
                    if not slow.recv(10):
                        raise ConnectionResetError
                except TimeoutError:
                    pass
        assert time.monotonic() - began < 15
