"""A served model in a process of its own, on a free port of the loopback address."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from benchmarks import serve as load

PROGRAM = """
import json, logging, sys
from pathlib import Path
from yourbert.core.errors import exit_cleanly
from yourbert.runtime.machine import prepare
from yourbert.deploy.serve import model
from yourbert.deploy.serve.limits import Limits
from yourbert.deploy.serve.run import serve
from yourbert.config.schema import Runtime
logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
folder, limits, slow = sys.argv[1], json.loads(sys.argv[2]), float(sys.argv[3])
if slow:
    import time
    quick = model.ServedModel.predict
    def predict(self, name, rows):
        time.sleep(slow)
        return quick(self, name, rows)
    model.ServedModel.predict = predict
machine = prepare(Runtime(device="cpu", precision="fp32", num_threads=1, deterministic=False))
exit_cleanly(lambda: serve(Path(folder), "127.0.0.1", 0, machine, Limits(**limits)))
"""


@dataclass
class Service:
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def ask(self, path: str, body: Any, **more: Any) -> requests.Response:
        return requests.post(self.url(path), json=body, timeout=60, **more)

    def get(self, path: str) -> requests.Response:
        return requests.get(self.url(path), timeout=60)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def resident(self) -> int:
        return load.resident(self.process.pid)


@contextmanager
def served(folder: Path, log: Path, slow: float = 0.0, **limits: float) -> Iterator[Service]:
    """slow: seconds that each batch takes longer. limits: fields of `Limits`."""
    command = [sys.executable, "-c", PROGRAM, str(folder), json.dumps(limits), str(slow)]
    with load.started(command, log) as (port, process):
        yield Service(port, process, log)
