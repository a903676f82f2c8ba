"""A sweep's outcomes as they come: results are taken into this repository, the logs of failures kept."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from yourbert.core.storage import write_text
from yourbert.experiments.cluster.node import Job, Outcome
from yourbert.experiments.cluster.repository import take_in, whole
from yourbert.experiments.cluster.sweep import sweep

LOGGER = logging.getLogger("yourbert")
LOGS = Path(".yourbert/cluster")


def collect(jobs: Sequence[Job], start: str, *, address: str, cpus: int, gpus: int, tries: int) -> Iterator[Outcome]:
    """Runs the jobs of a sweep that starts from commit `start`; each outcome when all is done that it asks for."""
    outcomes = sweep(jobs, whole(), address=address, cpus=cpus, gpus=gpus, tries=tries)
    for number, outcome in enumerate(outcomes, start=1):
        so_far = f"{number}/{len(jobs)} {outcome.name}"
        if outcome.result:
            take_in(outcome.result, start, outcome.name)
            LOGGER.info("%s: done on %s in %.0f s", so_far, outcome.node, outcome.seconds)
        else:
            log = LOGS / f"{outcome.name}.log"
            write_text(log, outcome.log)
            LOGGER.warning("%s: failed: %s (%s)", so_far, outcome.problem, log)
        yield outcome
