"""The server process: its address, and its shutdown: S08."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.deploy.serve.conftest import mood
from tests.support.commands import YOURBERT
from tests.support.predicting import sentence
from tests.support.serve_process import served

pytestmark = pytest.mark.integration


def test_s08_an_end_under_load(folder: Path, tmp_path: Path) -> None:
    with served(folder, tmp_path / "log", slow=0.2) as service:
        with ThreadPoolExecutor(16) as pool:
            asked = [pool.submit(service.ask, "predict", mood([sentence(n)])) for n in range(16)]
            time.sleep(0.3)
            service.process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            service.process.wait(60)
            assert time.monotonic() - began < 10
            assert all(one.result().status_code == 200 for one in asked), "none is lost"
        assert service.process.returncode == 143
        assert "Traceback" not in service.log.read_text()


@pytest.mark.parametrize(
    "words",
    [["--port", "99999"], ["--port", "x"], ["--host", "no.such.host.invalid"], ["--host", "8.8.8.8"], ["--host", ""]],
)
def test_an_invalid_address_blames_the_option_that_is_wrong(folder: Path, words: list[str]) -> None:
    command = [*YOURBERT, "serve", str(folder), "--device", "cpu", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("YB-P05") and done.stderr.count("\n") == 1
    assert ("--host" in done.stderr, "--port" in done.stderr) == (words[0] == "--host", words[0] == "--port")


def test_a_port_that_is_taken(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [*YOURBERT, "serve", str(folder), "--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "--port" in done.stderr and done.stderr.count("\n") == 1
