"""DVC's own queue as the one that runs experiments: they are put there, its workers started, and waited for."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from yourbert.cluster.grid import Experiment
from yourbert.errors import fail, quoted

SECONDS_BETWEEN_LOOKS = 2.0
ENDED = ("Success", "Failed")


def run_in_queue(experiments: Sequence[Experiment], targets: Sequence[str], jobs: int) -> Iterator[tuple[str, bool]]:
    """Runs experiments, `jobs` at a time; the name of each as it ends, and whether it succeeded.

    Raises UserError (X25) when the queue does not take them. Interrupted, the workers finish what they have begun.
    """
    before = {task for task, _, _ in states()}
    for one in experiments:
        overrides = [word for override in one.overrides for word in ("-S", override)]
        dvc("exp", "run", "--queue", "--name", one.name, *overrides, *targets)
    dvc("queue", "start", "--jobs", str(jobs))
    waiting = {one.name for one in experiments}
    while waiting:
        time.sleep(SECONDS_BETWEEN_LOOKS)
        for task, name, status in states():
            if task not in before and name in waiting and status in ENDED:
                waiting.discard(name)
                yield name, status == "Success"


def states() -> list[tuple[str, str, str]]:
    """Task, name and state of every named experiment that the queue knows; a name may have older tasks that failed."""
    cells = [line.split() for line in dvc("queue", "status").splitlines()]
    return [(words[0], words[1], words[-1]) for words in cells if len(words) > 3 and words[0] != "Task"]


def dvc(*words: str) -> str:
    """What a DVC command prints."""
    done = subprocess.run([sys.executable, "-m", "dvc", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["no word why"]
        fail(
            "X25",
            f"dvc {' '.join(words[:2])}: {quoted(said[-1])[1:-1]}",
            fix="see `dvc queue status`, `dvc queue logs`",
        )
    return done.stdout
