"""A small training in which the N-th thing done to the disk does not happen; run as a program by the tests.

`python -m tests.crash_points FOLDER MODE FIRST STRIDE` does the training once undisturbed, counting what it does to the
disk, then for every STRIDE-th N from FIRST on twice: with a fault at N, and again without. Prints a JSON line for each
N. The processes are forked from this one, which has loaded torch.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from yourbert.checkpoint import Resume
from yourbert.errors import UserError
from yourbert.params import read_params
from yourbert.random_model import make_random_model
from yourbert.settings import Mixture
from yourbert.tailor import tailor
from yourbert.tokenize_task import tokenize_task

ROOT = Path(__file__).parents[1]
# What a file goes through on its way to its name, and what removes a state that is needed no more; a disk that is full
# stops only the former.
OPERATIONS = {"crash": ("fsync", "replace", "unlink", "rmdir"), "enospc": ("fsync", "replace")}
KILLED = 137


def corpus(folder: Path) -> None:
    data = read_params(ROOT / "params.yaml").tasks["sst"].data
    folder.mkdir()
    words = ("bad", "poor", "fair", "good", "great")
    for name in (data.train, data.dev):
        rows = [f"{n}\t{words[n % 5]} film\t{n % 5}" for n in range(20)]
        (folder / name).write_text("\n".join(["id\tsentence\tsentiment", *rows]) + "\n")


def training(folder: Path) -> None:
    params = read_params(ROOT / "params.yaml")
    settings = params.training("sst").model_copy(update={"epochs": 2, "batch_size": 8})
    runtime = params.runtime().model_copy(update={"threads": 1, "precision": "fp32"})
    mixture = Mixture(tasks=["sst"], sampling="proportional")
    tailor(
        "sst", mixture, settings, runtime, 1, folder / "base", folder / "tokens", folder / "out/model",
        folder / "out/curve.csv", folder / "out/cost.json",
    )  # fmt: skip


def disturb(mode: str, at: int, count: list[int]) -> None:
    """Before operation number `at` (from 1) the fault happens; all of them are counted."""
    fault = {"crash": crash, "enospc": disk_full}[mode]

    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            count[0] += 1
            if count[0] == at:
                fault()
            return real(*args, **kwargs)

        return wrapped

    for name in OPERATIONS[mode]:
        setattr(os, name, wrap(getattr(os, name)))


def crash() -> None:
    os._exit(KILLED)


def disk_full() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def in_a_fork(folder: Path, mode: str, at: int) -> tuple[int, int]:
    """Trains in a forked process; its exit code, and how many operations it counted."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        count, code = [0], 1
        disturb(mode, at, count)
        try:
            training(folder)
            code = 0
        except UserError as error:
            code = error.exit_code
        finally:
            os.write(write, str(count[0]).encode())
            os._exit(code)
    os.close(write)
    _, status = os.waitpid(child, 0)
    counted = int(os.read(read, 100) or b"0")
    os.close(read)
    return os.waitstatus_to_exitcode(status), counted


def outputs(folder: Path) -> dict[str, str]:
    """The hash of every output but the time it took."""
    files = sorted(p for p in (folder / "out").rglob("*") if p.is_file() and not p.name.startswith("."))
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in files
        if p.name != "cost.json"
    }


def main(place: str, mode: str, first: str, stride: str) -> None:
    folder = Path(place)
    os.chdir(folder)
    Resume.due = lambda resume: True  # type: ignore[method-assign]  # a state after every step
    corpus(folder / "corpus")
    make_random_model("random:1x32", folder / "corpus", folder / "base")
    data = read_params(ROOT / "params.yaml").tasks["sst"].data
    tokenize_task("sst", data, folder / "corpus", folder / "base", folder / "tokens" / "sst")
    code, points = in_a_fork(folder, mode, 0)
    assert code == 0
    expected = outputs(folder)
    for at in range(int(first), points + 1, int(stride)):
        shutil.rmtree(folder / "out")
        shutil.rmtree(folder / ".yourbert", ignore_errors=True)
        struck, _ = in_a_fork(folder, mode, at)
        parts = len([*folder.rglob(".*.part")])
        again, _ = in_a_fork(folder, mode, 0)
        ended = outputs(folder)
        differs = sorted(name for name in expected.keys() | ended.keys() if expected.get(name) != ended.get(name))
        found = {"at": at, "of": points, "struck": struck, "parts": parts, "again": again, "differs": differs}
        print(json.dumps(found), flush=True)
        for path in folder.rglob(".*.part"):
            path.unlink()


if __name__ == "__main__":
    main(*sys.argv[1:])
