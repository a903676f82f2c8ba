"""Runs experiments in DVC's queue: queues them, starts its workers, and waits."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from yourbert.core.errors import cleaned, fail
from yourbert.experiments.search.grid import Experiment

POLL_INTERVAL_S = 2.0
# A starting or busy worker may miss some of DVC's status calls, but not this many in a row.
MAX_POLLS_WITHOUT_WORKERS = 15
NO_WORKERS = "Worker status: 0 active, 0 idle"
ENDED = ("Success", "Failed")


def run_in_queue(experiments: Sequence[Experiment], targets: Sequence[str], jobs: int) -> Iterator[tuple[str, bool]]:
    """Runs experiments, `jobs` at a time; yields (name, succeeded) as each ends.

    Raises UserError (X25) if a DVC command fails or the queue's workers are gone. After an interrupt the workers finish
    their current experiments.
    """
    before = {task for task, _, _ in states(status())}
    for experiment in experiments:
        overrides = [word for override in experiment.overrides for word in ("-S", override)]
        dvc("exp", "run", "--queue", "--name", experiment.name, *overrides, *targets)
    dvc("queue", "start", "--jobs", str(jobs))
    waiting, polls = {experiment.name for experiment in experiments}, 0
    while waiting:
        time.sleep(POLL_INTERVAL_S)
        table = status()
        for task, name, state in states(table):
            if task not in before and name in waiting and state in ENDED:
                waiting.discard(name)
                yield name, state == "Success"
        polls = polls + 1 if NO_WORKERS in table else 0
        if waiting and polls == MAX_POLLS_WITHOUT_WORKERS:
            what = f"the queue's workers are gone, and {len(waiting)} experiments are waiting"
            fail("X25", what, fix="`dvc queue start`, or `dvc queue remove --all`; then the same command again")


def status() -> str:
    return dvc("queue", "status")


def states(table: str) -> list[tuple[str, str, str]]:
    """(task, name, state) of every named experiment in the queue; a name may have older, failed tasks."""
    cells = [line.split() for line in table.splitlines()]
    return [(words[0], words[1], words[-1]) for words in cells if len(words) > 3 and words[0] != "Task"]


def dvc(*words: str) -> str:
    """Runs a DVC command and returns its output. Raises UserError (X25) with its last line if it fails."""
    done = subprocess.run([sys.executable, "-m", "dvc", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no error message"]
        fail(
            "X25",
            f"dvc {' '.join(words[:2])}: {cleaned(lines[-1])}",
            fix="see `dvc queue status`, `dvc queue logs`",
        )
    return done.stdout
