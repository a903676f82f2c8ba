"""A hub on this machine, and a cache per test."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.support.faulty_server import Faulty, serving, without_proxies


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    without_proxies(monkeypatch)
    caplog.set_level(logging.INFO, logger="yourbert")


@pytest.fixture
def server() -> Iterator[Faulty]:
    with serving() as faulty:
        yield faulty


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """No pause lasts; how long each would have been."""
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    return pauses


@pytest.fixture
def hub(server: Faulty, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Faulty:
    """The client reads its environment once, when it is imported, so its constants are set here."""
    use_hub(monkeypatch, server.address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hf" / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return server


def use_hub(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
