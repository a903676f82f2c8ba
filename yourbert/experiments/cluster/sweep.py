"""Schedules experiments with Ray, which queues and starts them, assigns CPUs and GPUs, and retries.

If a machine or a worker dies, Ray restarts its experiments elsewhere. Each result is imported into this repository as
soon as it arrives, so it survives later failures, also of this process. The logs of failed experiments are kept.
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
from yourbert.experiments.cluster.node import ExperimentJob, JobResult, RetryableError, run
from yourbert.experiments.cluster.repository import bundle_repository, import_result

logger = logging.getLogger("yourbert")
LOCAL = "local"
LOGS = Path(".yourbert/cluster")
CONNECT_TIMEOUT_S = 10.0


def collect(
    jobs: Sequence[ExperimentJob], start: str, *, address: str, cpus: int, gpus: int, max_attempts: int
) -> Iterator[JobResult]:
    """Runs jobs that start from commit `start`; imports each result, or writes its log, and then yields it."""
    results = sweep(jobs, bundle_repository(), address=address, cpus=cpus, gpus=gpus, max_attempts=max_attempts)
    for number, result in enumerate(results, start=1):
        label = f"{number}/{len(jobs)} {result.name}"
        if result.bundle:
            import_result(result.bundle, start, result.name)
            logger.info("%s: done on %s in %.0f s", label, result.node, result.seconds)
        else:
            log = LOGS / f"{result.name}.log"
            write_text(log, result.log)
            logger.warning("%s: failed: %s (%s)", label, result.problem, log)
        yield result


def sweep(
    jobs: Sequence[ExperimentJob], repository: bytes, *, address: str, cpus: int, gpus: int, max_attempts: int
) -> Iterator[JobResult]:
    """Runs all jobs and yields each result as soon as it arrives.

    address: of a Ray cluster; "auto": the cluster of this machine; "local": a new one that ends with the sweep.
    cpus, gpus: reserved for one experiment. Raises UserError (X23) if no Ray cluster responds.
    """
    ray = _connect(address)
    try:
        _warn_if_too_small(ray, cpus, gpus)
        task = ray.remote(run)
        retries = {"max_retries": max_attempts - 1, "retry_exceptions": [RetryableError]}
        shared = ray.put(repository)
        waiting = {
            task.options(name=job.name, num_cpus=cpus, num_gpus=gpus, **retries).remote(job, shared): job
            for job in jobs
        }
        while waiting:
            (ready, *_), _ = ray.wait(list(waiting))
            yield _result(ray, ready, waiting.pop(ready))
    finally:
        ray.shutdown()


def _connect(address: str) -> Any:
    """The module `ray`, connected, without usage statistics; a local cluster listens on this machine only."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address == LOCAL:
        # Without it Ray replaces "localhost" by an address that other machines can reach.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    ray: Any = importlib.import_module("ray")
    try:
        _check_reachable(address)
        options = {"include_dashboard": False} if address == LOCAL else {}
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING, **options)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        what = f"no Ray cluster responds ({str(error).splitlines()[0]})"
        fail("X23", what, where=f"--ray {address}", fix="start one with `ray start`, or use --ray local")
    return ray


def _check_reachable(address: str) -> None:
    """Raises OSError if nothing listens at `host:port`; Ray itself would retry for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and "/" not in host:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()


def _warn_if_too_small(ray: Any, cpus: int, gpus: int) -> None:
    """Warns if no machine can run an experiment now; it is no error, because a cluster may grow."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(m.get("CPU", 0) >= cpus and m.get("GPU", 0) >= gpus for m in machines):
        logger.warning("no machine has %d CPUs and %d GPUs for one experiment; waiting for one to join", cpus, gpus)


def _result(ray: Any, ready: object, job: ExperimentJob) -> JobResult:
    """The result of a job; the failure of its last attempt is a result, too."""
    try:
        result: JobResult = ray.get(ready)
        return result
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, RetryableError):
            node, problem, log = error.cause.args
            return JobResult(job.name, node, problem=problem, log=log)
        return JobResult(job.name, "", problem=f"{type(error.cause).__name__}: {error.cause}", log=str(error))
    except ray.exceptions.RayError as error:
        return JobResult(job.name, "", problem=str(error).splitlines()[0], log=str(error))
