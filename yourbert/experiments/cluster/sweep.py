"""Ray as the one that places experiments: it queues, starts, counts processors and GPUs, and tries again.

A machine or a worker that dies midway costs only the experiments it was running; Ray starts those elsewhere. Results
are taken into this repository one by one, so what is finished stays finished whatever happens to the rest, or to this
process; the logs of failures are kept.
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from yourbert.core.errors import fail
from yourbert.core.storage import write_text
from yourbert.experiments.cluster.node import Job, Outcome, TryAgain, run
from yourbert.experiments.cluster.repository import take_in, whole

LOGGER = logging.getLogger("yourbert")
LOCAL = "local"
LOGS = Path(".yourbert/cluster")
SECONDS_TO_ANSWER = 10.0


def collect(jobs: Sequence[Job], start: str, *, address: str, cpus: int, gpus: int, tries: int) -> Iterator[Outcome]:
    """Runs jobs that start from commit `start`; yields each outcome once its result, or its log, is kept here."""
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


def sweep(
    jobs: Sequence[Job], repository: bytes, *, address: str, cpus: int, gpus: int, tries: int
) -> Iterator[Outcome]:
    """Runs all jobs and yields each one's outcome as soon as it is there.

    address: of a Ray cluster, "auto" for the one of this machine, "local" for a Ray of its own that ends with the
    sweep. cpus, gpus: what one experiment has to itself. Raises UserError (X23) when no Ray answers.
    """
    ray = _connect(address)
    try:
        _warn_of_waiting(ray, cpus, gpus)
        task = ray.remote(run)
        needs = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": tries - 1, "retry_exceptions": [TryAgain]}
        shared = ray.put(repository)
        waiting = {task.options(name=job.name, **needs).remote(job, shared): job for job in jobs}
        while waiting:
            (ready, *_), _ = ray.wait(list(waiting))
            yield _outcome(ray, ready, waiting.pop(ready))
    finally:
        ray.shutdown()


def _connect(address: str) -> Any:
    """The module `ray`, connected. It sends no usage statistics; a local one listens on this machine alone."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address == LOCAL:
        # Ray's switch for laptops: without it "localhost" is replaced by an address that others can reach.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    ray: Any = importlib.import_module("ray")
    try:
        _knock(address)
        own = {"include_dashboard": False} if address == LOCAL else {}
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING, **own)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        what = f"no Ray cluster answers ({str(error).splitlines()[0]})"
        fail("X23", what, where=f"--ray {address}", fix="start one with `ray start`, or use --ray local")
    return ray


def _knock(address: str) -> None:
    """Tries whether anything listens at `host:port`: Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and "/" not in host:
        socket.create_connection((host, int(port)), SECONDS_TO_ANSWER).close()


def _warn_of_waiting(ray: Any, cpus: int, gpus: int) -> None:
    """A cluster may still grow, so what no machine can run now is not refused, but said."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(m.get("CPU", 0) >= cpus and m.get("GPU", 0) >= gpus for m in machines):
        LOGGER.warning("no machine has %d processors and %d GPUs free for one run; waiting for one to join", cpus, gpus)


def _outcome(ray: Any, ready: object, job: Job) -> Outcome:
    """What became of a job. A failure that Ray reports after its last try is an outcome, too."""
    try:
        outcome: Outcome = ray.get(ready)
        return outcome
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, TryAgain):
            node, problem, log = error.cause.args
            return Outcome(job.name, node, problem=problem, log=log)
        return Outcome(job.name, "", problem=f"{type(error.cause).__name__}: {error.cause}", log=str(error))
    except ray.exceptions.RayError as error:
        return Outcome(job.name, "", problem=str(error).splitlines()[0], log=str(error))
