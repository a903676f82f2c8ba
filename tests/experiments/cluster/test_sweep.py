"""A cluster that does not respond."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from yourbert.core.errors import UserError
from yourbert.experiments.cluster.sweep import sweep


def test_an_unreachable_cluster_fails_at_once(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray.exceptions", reason="needs the extra cluster")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    for given in (address, "127.0.0.1:port", "no.such.host.invalid:6379"):
        with pytest.raises(UserError, match="YB-X23"):
            next(sweep([], b"", address=given, cpus=1, gpus=0, max_attempts=1))
