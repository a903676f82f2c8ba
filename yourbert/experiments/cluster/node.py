"""What a machine does with one experiment: a fresh clone, `dvc exp run` in it, the experiment's commit back.

All experiments on a machine share one DVC cache with its run cache, so weights, tokens and any stage done before come
from there. Only resume state outlives a run that was cut off: tried again on the same machine, or on another with the
same folder, it continues from its last saving.
"""

from __future__ import annotations

import fcntl
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
from yourbert.core.paths import cache_folder
from yourbert.experiments.cluster import guard
from yourbert.experiments.cluster.repository import check_out, result_of

DVC = ("-m", "dvc")
RESUME = ".yourbert"
LOG_BYTES = 200_000
# Parameters, data, artefacts, training: the same everywhere. What else fails (a kill, memory, a full disk, the
# network) may go well at another time or place.
MISTAKE = re.compile(r"YB-[PDCT]\d\d")


@dataclass(frozen=True)
class Job:
    """An experiment to run from commit `start`. keep: the DVC remote that its models go to, "" for none."""

    name: str
    start: str
    overrides: tuple[str, ...]
    targets: tuple[str, ...]
    keep: str


@dataclass(frozen=True)
class Outcome:
    """result: the experiment's commit as a bundle; empty when it failed, and then `problem` and `log` say why."""

    name: str
    node: str
    seconds: float = 0.0
    result: bytes = b""
    problem: str = ""
    log: str = ""


class TryAgain(Exception):
    """A failure that need not repeat itself; its arguments are node, problem and log."""


def run(job: Job, repository: bytes) -> Outcome:
    """Runs one experiment. Raises TryAgain when another try may succeed."""
    began = time.monotonic()
    place = cache_folder() / "cluster"
    clone = place / "runs" / f"{job.start[:12]}-{job.name}"
    try:
        with _held(place / "locks" / clone.name) as lock:
            log = place / "logs" / f"{clone.name}.log"
            _prepare(clone, log, place / "cache", repository, job.start)
            code = _experiment(clone, log, lock, job)
            if code == 0:
                result = result_of(clone, job.start, job.name)
                shutil.rmtree(clone)
                return Outcome(job.name, node_name(), time.monotonic() - began, result)
            text = log.read_bytes()[-LOG_BYTES:].decode(errors="replace")
            if MISTAKE.search(text):
                shutil.rmtree(clone)
                return Outcome(job.name, node_name(), problem=_problem(text, code), log=text)
            _clear(clone)
            raise TryAgain(node_name(), _problem(text, code), text)
    except (UserError, OSError) as error:
        raise TryAgain(node_name(), str(error).splitlines()[0], str(error)) from None


def _prepare(clone: Path, log: Path, cache: Path, repository: bytes, commit: str) -> None:
    _clear(clone)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    check_out(clone, repository, commit)
    _share_cache(clone, cache)


def _experiment(clone: Path, log: Path, lock: int, job: Job) -> int:
    """Runs the experiment and gives its models away; returns the exit code of what failed, or 0."""
    settings = [word for override in job.overrides for word in ("--set-param", override)]
    code = _dvc(clone, log, lock, "exp", "run", "--pull", "--name", job.name, *settings, *job.targets)
    return _keep_models(clone, log, lock, job.keep) if code == 0 and job.keep else code


def node_name() -> str:
    """This machine's name and the beginning of its id in Ray."""
    import ray

    return f"{socket.gethostname()}/{ray.get_runtime_context().get_node_id()[:6]}"


@contextmanager
def _held(path: Path) -> Iterator[int]:
    """A lock that only one process has; waits for the last try of the same experiment to be gone altogether."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _clear(clone: Path) -> None:
    """An empty folder, but for resume state."""
    clone.mkdir(parents=True, exist_ok=True)
    for child in clone.iterdir():
        if child.name != RESUME:
            shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()


def _environment(clone: Path) -> dict[str, str]:
    """Stages run `python`: this one. What DVC keeps per repository goes away with the clone."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(clone / ".dvc/tmp/site")}


def _share_cache(clone: Path, cache: Path) -> None:
    """One cache for all clones, unless the machine's own DVC settings name one (a shared file system, perhaps)."""
    command = [sys.executable, *DVC, "config", "cache.dir"]
    if not subprocess.run(command, cwd=clone, env=_environment(clone), capture_output=True, check=False).stdout.strip():
        (clone / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {cache}\n")


def _dvc(clone: Path, log: Path, lock: int, *words: str) -> int:
    """Runs a DVC command that ends with this process; the guard holds the lock until it has ended."""
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


def _keep_models(clone: Path, log: Path, lock: int, remote: str) -> int:
    """Pushes the trained models. dvc.yaml keeps them from a careless `dvc push`; here they were asked for."""
    pipeline = clone / "dvc.yaml"
    pipeline.write_text(pipeline.read_text().replace("push: false", "push: true"))
    models = [str(path.relative_to(clone)) for path in sorted((clone / "build" / "models").glob("*/*"))]
    return _dvc(clone, log, lock, "push", "--remote", remote, *models) if models else 0


def _problem(text: str, code: int) -> str:
    """The line of a log that says best why a run failed."""
    lines = text.splitlines()
    for sign in ("YB-", "ERROR: ", "Error: "):
        if found := [line.strip() for line in lines if sign in line]:
            return "".join(c for c in found[-1].removeprefix("ERROR: ") if c.isprintable())
    return f"dvc ended with exit code {code}"
