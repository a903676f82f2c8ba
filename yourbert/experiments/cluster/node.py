"""Runs one experiment on a machine: a fresh clone, `dvc exp run` in it, the experiment's commit back.

All experiments on a machine share one DVC cache and its run cache, which provide weights, tokens and finished stages.
Only resume state survives an interrupted run: a retry with the same folder continues from the last checkpoint.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from yourbert.core.errors import UserError
from yourbert.core.locks import try_lock
from yourbert.core.paths import cache_folder
from yourbert.experiments.cluster import guard
from yourbert.experiments.cluster.repository import bundle_result, check_out

DVC = ("-m", "dvc")
RESUME = ".yourbert"
LOG_BYTES = 200_000
LOCK_POLL_S = 0.1
# Errors of parameters, data, artefacts and training repeat everywhere. Others (a kill, memory, disk, network) may not.
PERMANENT_ERROR = re.compile(r"YB-[PDCT]\d\d")


@dataclass(frozen=True)
class ExperimentJob:
    """An experiment to run from commit `start`. models_remote: the DVC remote to push its models to, "" for none."""

    name: str
    start: str
    overrides: tuple[str, ...]
    targets: tuple[str, ...]
    models_remote: str


@dataclass(frozen=True)
class JobResult:
    """bundle: the experiment's commit as a git bundle; empty if it failed, and then `problem` and `log` say why."""

    name: str
    node: str
    seconds: float = 0.0
    bundle: bytes = b""
    problem: str = ""
    log: str = ""


class RetryableError(Exception):
    """A failure that a retry may avoid. args: node, problem, log."""


def run(job: ExperimentJob, repository: bytes) -> JobResult:
    """Runs one experiment. Raises RetryableError if a retry may succeed."""
    started = time.monotonic()
    folder = cache_folder() / "cluster"
    clone = folder / "runs" / f"{job.start[:12]}-{job.name}"
    try:
        with _exclusive_lock(folder / "locks" / clone.name) as lock:
            log = folder / "logs" / f"{clone.name}.log"
            _prepare(clone, log, folder / "cache", repository, job.start)
            code = _run_experiment(clone, log, lock, job)
            if code == 0:
                bundle = bundle_result(clone, job.start, job.name)
                shutil.rmtree(clone)
                return JobResult(job.name, node_name(), time.monotonic() - started, bundle)
            text = log.read_bytes()[-LOG_BYTES:].decode(errors="replace")
            if PERMANENT_ERROR.search(text):
                shutil.rmtree(clone)
                return JobResult(job.name, node_name(), problem=_problem(text, code), log=text)
            _clear(clone)
            raise RetryableError(node_name(), _problem(text, code), text)
    except (UserError, OSError) as error:
        raise RetryableError(node_name(), str(error).splitlines()[0], str(error)) from None


def _prepare(clone: Path, log: Path, cache: Path, repository: bytes, commit: str) -> None:
    _clear(clone)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    check_out(clone, repository, commit)
    _share_cache(clone, cache)


def _run_experiment(clone: Path, log: Path, lock: int, job: ExperimentJob) -> int:
    """Runs the experiment and pushes its models; returns the first nonzero exit code, or 0."""
    settings = [word for override in job.overrides for word in ("--set-param", override)]
    code = _dvc(clone, log, lock, "exp", "run", "--pull", "--name", job.name, *settings, *job.targets)
    return _push_models(clone, log, lock, job.models_remote) if code == 0 and job.models_remote else code


def node_name() -> str:
    """This machine's host name and the first digits of its Ray node id."""
    import ray

    return f"{socket.gethostname()}/{ray.get_runtime_context().get_node_id()[:6]}"


@contextmanager
def _exclusive_lock(path: Path) -> Iterator[int]:
    """Holds a file lock; waits until all processes of an earlier attempt at the same experiment have ended."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        while not try_lock(file.fileno()):
            time.sleep(LOCK_POLL_S)
        yield file.fileno()


def _clear(clone: Path) -> None:
    """Empties the folder, except for resume state."""
    clone.mkdir(parents=True, exist_ok=True)
    for child in clone.iterdir():
        if child.name != RESUME:
            shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()


def _environment(clone: Path) -> dict[str, str]:
    """Puts this Python first in PATH, since stages run `python`, and DVC's per-repository files into the clone."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(clone / ".dvc/tmp/site")}


def _share_cache(clone: Path, cache: Path) -> None:
    """Sets one cache for all clones, unless the machine's DVC config names one, such as a shared file system."""
    command = [sys.executable, *DVC, "config", "cache.dir"]
    if not subprocess.run(command, cwd=clone, env=_environment(clone), capture_output=True, check=False).stdout.strip():
        (clone / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {cache}\n", encoding="utf-8")


def _dvc(clone: Path, log: Path, lock: int, *words: str) -> int:
    """Runs a DVC command that ends with this process; the guard inherits the lock and holds it until then."""
    command = [sys.executable, "-I", guard.__file__, sys.executable, *DVC, *words]
    with (
        log.open("ab") as output,
        subprocess.Popen(
            command,
            cwd=clone,
            env=_environment(clone),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[lock],
        ) as process,
    ):
        return process.wait()


def _push_models(clone: Path, log: Path, lock: int, remote: str) -> int:
    """Pushes the trained models, which dvc.yaml excludes from a plain `dvc push`."""
    pipeline = clone / "dvc.yaml"
    pipeline.write_text(pipeline.read_text(encoding="utf-8").replace("push: false", "push: true"), encoding="utf-8")
    models = [str(path.relative_to(clone)) for path in sorted((clone / "build" / "models").glob("*/*"))]
    return _dvc(clone, log, lock, "push", "--remote", remote, *models) if models else 0


def _problem(text: str, code: int) -> str:
    """The most informative error line of a log."""
    lines = text.splitlines()
    for marker in ("YB-", "ERROR: ", "Error: "):
        if matches := [line.strip() for line in lines if marker in line]:
            return "".join(c for c in matches[-1].removeprefix("ERROR: ") if c.isprintable())
    return f"dvc ended with exit code {code}"
