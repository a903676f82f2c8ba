"""DVC's own queue as the one that runs experiments: they are put there, its workers started, and waited for."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from yourbert.core.errors import cleaned, fail
from yourbert.experiments.search.grid import Experiment

SECONDS_BETWEEN_LOOKS = 2.0
# A worker that has just begun, or is busy, may miss one of DVC's calls, but not all of so many.
LOOKS_WITHOUT_WORKERS = 15
NO_WORKERS = "Worker status: 0 active, 0 idle"
ENDED = ("Success", "Failed")


def run_in_queue(experiments: Sequence[Experiment], targets: Sequence[str], jobs: int) -> Iterator[tuple[str, bool]]:
    """Runs experiments, `jobs` at a time; the name of each as it ends, and whether it succeeded.

    Raises UserError (X25) when the queue does not take them, or its workers are gone. Interrupted, the workers finish
    what they have begun.
    """
    before = {task for task, _, _ in states(status())}
    for one in experiments:
        overrides = [word for override in one.overrides for word in ("-S", override)]
        dvc("exp", "run", "--queue", "--name", one.name, *overrides, *targets)
    dvc("queue", "start", "--jobs", str(jobs))
    waiting, alone = {one.name for one in experiments}, 0
    while waiting:
        time.sleep(SECONDS_BETWEEN_LOOKS)
        told = status()
        for task, name, state in states(told):
            if task not in before and name in waiting and state in ENDED:
                waiting.discard(name)
                yield name, state == "Success"
        alone = alone + 1 if NO_WORKERS in told else 0
        if waiting and alone == LOOKS_WITHOUT_WORKERS:
            what = f"the queue's workers are gone, and {len(waiting)} experiments are waiting"
            fail("X25", what, fix="`dvc queue start`, or `dvc queue remove --all`; then the same command again")


def status() -> str:
    return dvc("queue", "status")


def states(told: str) -> list[tuple[str, str, str]]:
    """Task, name and state of every named experiment that the queue knows; a name may have older tasks that failed."""
    cells = [line.split() for line in told.splitlines()]
    return [(words[0], words[1], words[-1]) for words in cells if len(words) > 3 and words[0] != "Task"]


def dvc(*words: str) -> str:
    """What a DVC command prints."""
    done = subprocess.run([sys.executable, "-m", "dvc", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["no word why"]
        fail(
            "X25",
            f"dvc {' '.join(words[:2])}: {cleaned(said[-1])}",
            fix="see `dvc queue status`, `dvc queue logs`",
        )
    return done.stdout
