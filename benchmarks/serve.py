"""What a server does under load: requests a second, how long they take, what it answers, whether its memory grows.

    python -m benchmarks.serve build/models/sst/11711 --clients 64 --seconds 600

Starts `yourbert serve` on a free port. Each client asks for one text at a time, and now and then sends what no client
should: a large body, broken JSON, half a request. Prints a table, writes benchmarks/results/serve.json. Good means:
only 200, 4xx and 503, every answer the one that its text gets alone, and less than 5% more memory at its highest in
the last tenth of the time than in the second.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from benchmarks import machine
from benchmarks.results import RESULTS
from yourbert.core.errors import exit_cleanly
from yourbert.core.storage import write_json

OUT = RESULTS / "serve.json"
ROOT = Path(__file__).parents[1]
TEXTS = 200
HEADERS = {"Content-Type": "application/json"}
ODD = ('{"texts": ["' + "x" * (2 << 20) + '"]}', "[" * 10_000, '{"texts": [3]}', '{"txt": ["a"]}')
EVERY = 50  # requests, of which one is odd
GROWTH, TOLERANCE = 0.05, 5e-3  # TOLERANCE: bf16 rounds by the batch; in fp32 1e-5 holds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--task", help="which task of a model that has several")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    with server(given.model) as (port, process):
        found = load(port, process.pid, given.task, given.clients, given.seconds)
    print(tabulate([(name, value) for name, value in found.items()], ("", "")))
    write_json(given.out, {"command": machine.command("benchmarks.serve"), "machine": machine.facts("cpu"), **found})
    sys.exit(0 if good(found) else 1)


def good(found: dict[str, Any]) -> bool:
    statuses = {int(status) for status in found["statuses"]}
    known = all(status in (200, 503) or 400 <= status < 500 for status in statuses)
    return known and 200 in statuses and not found["wrong"] and found["growth"] < GROWTH


@contextmanager
def server(model: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A running server of the model: its port and its process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-c",
            "from yourbert.cli import main; main()",
            "serve",
            str(model.resolve()),
            "--port",
            "0",
        ]
        with started(command, Path(folder) / "log") as (port, process):
            yield port, process


@contextmanager
def started(command: list[str], log: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A command that serves, from the moment when its log names the port."""
    with log.open("wb") as out, subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out) as process:
        try:
            while not (port := re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text())):
                assert process.poll() is None, log.read_text()
                time.sleep(0.05)
            yield int(port[1]), process
        finally:
            process.kill()


def load(port: int, pid: int, task: str | None, clients: int, seconds: float) -> dict[str, Any]:
    """What that many clients see within that time."""
    about = ask(http.client.HTTPConnection("127.0.0.1", port), "GET", "/tasks")[1]
    name = task or next(iter(about["tasks"]))
    pair = bool(about["tasks"][name]["pair"])
    bodies = [json.dumps({"task": name, "texts": [row]}) for row in texts(pair)]
    first = http.client.HTTPConnection("127.0.0.1", port)
    alone = [ask(first, "POST", "/predict", body)[1]["predictions"][0] for body in bodies]
    began = time.monotonic()
    crowd = [Client(port, number, bodies, alone, began + seconds) for number in range(clients)]
    for client in crowd:
        client.start()
    _, early, *_, late = [highest(pid, seconds / 10) for _ in range(10)]
    for client in crowd:
        client.join()
    took = time.monotonic() - began
    times_N = np.array([one for client in crowd for one in client.times])
    statuses: Counter[int] = sum((client.statuses for client in crowd), Counter())
    return {
        "clients": clients, "seconds": round(took, 1), "requests": int(sum(statuses.values())),
        "answers_per_second": round(len(times_N) / took, 1),
        "ms_median": round(1000 * float(np.median(times_N)), 1),
        "ms_99": round(1000 * float(np.quantile(times_N, 0.99)), 1),
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "wrong": sum(client.wrong for client in crowd),
        "mib_early": early >> 20, "mib_late": late >> 20, "growth": round(late / early - 1, 4),
    }  # fmt: skip


def texts(pair: bool) -> list[Any]:
    """Made-up texts of 1 to 60 words, the same in each run."""
    drawn = random.Random(1)
    words = [
        "the", "a", "film", "was", "is", "not", "very", "good", "bad", "slow", "funny", "and", "but", "why", "never",
    ]  # fmt: skip
    made = [" ".join(drawn.choices(words, k=drawn.randint(1, 60))) for _ in range(TEXTS * (1 + pair))]
    return [made[2 * n : 2 * n + 2] for n in range(TEXTS)] if pair else list(made)


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: str | None = None) -> tuple[int, Any]:
    connection.request(method, path, body, HEADERS if body else {})
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None, "the server lives"
    return 1024 * int(found[1])


def highest(pid: int, seconds: float) -> int:
    """The most memory that a process holds within that time."""
    until, found = time.monotonic() + seconds, resident(pid)
    while time.monotonic() < until:
        time.sleep(min(0.5, seconds / 10))
        found = max(found, resident(pid))
    return found


class Client(threading.Thread):
    """Asks until the time is up. times: seconds of what was answered. wrong: answers that differ from those alone."""

    def __init__(self, port: int, number: int, bodies: list[str], alone: list[Any], until: float) -> None:
        super().__init__()
        self.port, self.drawn, self.bodies, self.alone, self.until = port, random.Random(number), bodies, alone, until
        self.times: list[float] = []
        self.statuses: Counter[int] = Counter()
        self.wrong = 0

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        while time.monotonic() < self.until:
            if self.drawn.randrange(EVERY) == 0:
                self._odd()
                continue
            row = self.drawn.randrange(len(self.bodies))
            began = time.monotonic()
            status, said = ask(connection, "POST", "/predict", self.bodies[row])
            self.statuses[status] += 1
            if status == 200:
                self.times.append(time.monotonic() - began)
                self.wrong += not alike(said["predictions"][0], self.alone[row])
            elif status == 503:
                time.sleep(0.05)

    def _odd(self) -> None:
        kind = self.drawn.randrange(len(ODD) + 1)
        if kind == len(ODD):
            with socket.create_connection(("127.0.0.1", self.port), timeout=60) as half:
                half.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        self.statuses[ask(connection, "POST", "/predict", ODD[kind])[0]] += 1
        connection.close()


def alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    if "probabilities" not in one:
        return bool(abs(one["prediction"] - other["prediction"]) <= 5 * TOLERANCE)
    shares = [(one["probabilities"][label], share) for label, share in other["probabilities"].items()]
    return all(abs(a - b) <= TOLERANCE for a, b in shares)


if __name__ == "__main__":
    exit_cleanly(main)
