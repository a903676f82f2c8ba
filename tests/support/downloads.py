"""What the tests of downloads share: a file, short patience, and how a refusal looks."""

from __future__ import annotations

import hashlib
import random
import socket
from pathlib import Path
from typing import Any

import pytest

from yourbert.core.errors import UserError
from yourbert.download.fetch import fetch
from yourbert.download.http import Patience

QUICK = Patience(
    connect=3.0,
    idle=2.0,
    tries=5,
    first_wait=0.02,
    longest_wait=1.2,
    unreachable=3.5,
    window=0.5,
    least_rate=20_000.0,
    busy=10.0,
)
DATA = random.Random(0).randbytes(300_000)
SHA = hashlib.sha256(DATA).hexdigest()
BLOB = hashlib.sha1(b"blob %d\0" % len(DATA) + DATA).hexdigest()
SLACK = 4096
BUFFER = 8192


def without_proxies(patch: pytest.MonkeyPatch) -> None:
    """The servers of the tests are on this machine; a proxy of the environment does not know them."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        patch.delenv(name, raising=False)
        patch.delenv(name.upper(), raising=False)


def refused(code: str, url: str, target: Path, **settings: Any) -> str:
    """The one line of the refusal; the target is not there."""
    with pytest.raises(UserError) as caught:
        fetch(url, target, **{"patience": QUICK, **settings})
    assert [p.code for p in caught.value.problems] == [code], caught.value.lines()
    assert caught.value.exit_code == {"W": 4, "R": 7, "B": 8}[code[0]]
    assert not target.exists()
    line = caught.value.lines()[0]
    assert "\n" not in line
    return line


def part_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def only(target: Path) -> bool:
    """Whether nothing but the file is left: no part, no lock."""
    return [p.name for p in target.parent.iterdir()] == [target.name]


def aside(target: Path) -> Path:
    return target.with_name("file.bin.quarantine")


def closed_address() -> str:
    """An address on this machine where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"
