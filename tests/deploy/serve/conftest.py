"""A server of two tasks, started once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.predicting import TASKS, saved
from tests.support.serve_process import Service, served

HEAD = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("served"), TASKS)


@pytest.fixture(scope="session")
def service(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with served(folder, tmp_path_factory.mktemp("log") / "log", receive_timeout_s=2.0) as service:
        yield service


def error(response: requests.Response, status: int, code: str) -> dict[str, str]:
    """The error of a response, which is whole: a code, a message, and the id that the header has too."""
    assert response.status_code == status, response.text
    found: dict[str, str] = response.json()["error"]
    assert found["code"] == code and found["message"]
    assert found["request_id"] == response.headers["X-Request-ID"]
    return found


def mood(texts: Sequence[Any]) -> dict[str, Any]:
    return {"task": "mood", "texts": list(texts)}
