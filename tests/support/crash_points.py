"""The stages of a small pipeline in which the N-th thing done to the disk does not happen; a program for the tests.

`python -m tests.support.crash_points FOLDER MODE FIRST STRIDE STAGE..` runs the whole pipeline once undisturbed. Then,
for each of the named stages, it does for every STRIDE-th N from FIRST on what DVC does: removes what the stage makes
and runs it
- once with a fault at its N-th operation, once more without. Prints a JSON line for each N. The processes are forked
from this one, which has loaded torch.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from yourbert.core.errors import UserError
from yourbert.training.checkpoint import Resume

ROOT = Path(__file__).parents[2]
STAGES: dict[str, tuple[str, ...]] = {
    "check": (), "download": (), "tokenize": ("sst",), "pretrain": (), "finetune": ("sst", "1"),
    "evaluate": ("sst", "1"), "report": (),
}  # fmt: skip
# What a file goes through on its way to its name, and what removes a state that is needed no more; a disk that is full,
# or a file that is too large, stops only the former.
WRITES = ("fsync", "replace")
OPERATIONS = {"crash": (*WRITES, "unlink", "rmdir", "link"), "enospc": WRITES, "efbig": WRITES}
KILLED = 137
# These hold seconds, which differ each time, or follow from files that do.
TIMED = ("metrics/cost", "metrics/summary.json", "report")


def project(folder: Path) -> None:
    """A params.yaml of one task with little to do, and its corpus; everything else the stages make."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params |= {"model": "random:1x32", "corpus": "mine", "seeds": [1], "num_threads": 1, "precision": "fp32"}
    params |= {"batch_size": 8, "mixtures": {}, "sequential": [], "tasks": {"sst": params["tasks"]["sst"]}}
    params["pretrain"] |= {"enabled": True, "batch_size": 8}
    params["evaluate"] |= {
        "bootstrap_samples": 100,
        "num_explanations": 1,
        "submission": {"sst": "Predicted_Sentiment"},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    (folder / "mine").mkdir()
    (folder / "data").mkdir()
    words = ("bad", "poor", "fair", "good", "great")
    data = params["tasks"]["sst"]["data"]
    for split in ("train", "dev"):
        rows = [f"{n}\t{split}{n}\t{words[n % 5]} {split} film {n}\t{n % 5}" for n in range(20)]
        (folder / "mine" / data[split]).write_text("\n".join(["\tid\tsentence\tsentiment", *rows]) + "\n")


def disturb(mode: str, at: int, count: list[int]) -> None:
    """Before operation number `at` (from 1) the fault happens; all of them are counted."""
    fault = crash if mode == "crash" else partial(refuse, getattr(errno, mode.upper()))

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


def refuse(number: int) -> None:
    raise OSError(number, os.strerror(number))


def in_a_fork(stage: str, mode: str, at: int) -> tuple[int, int]:
    """Runs a stage in a forked process; its exit code, and how many operations it counted."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        count, code = [0], 1
        disturb(mode, at, count)
        try:
            import_module(f"stages.{stage}").main(*STAGES[stage])
            code = 0
        except UserError as error:
            sys.stderr.write(f"{error}\n")
            code = error.exit_code
        finally:
            os.write(write, str(count[0]).encode())
            os._exit(code)
    os.close(write)
    _, status = os.waitpid(child, 0)
    counted = int(os.read(read, 100) or b"0")
    os.close(read)
    return os.waitstatus_to_exitcode(status), counted


def hashes() -> dict[str, str]:
    """Of every file but the resume states and those that a kill left unfinished."""
    files = sorted(
        p for p in Path().rglob("*") if p.is_file() and not p.name.startswith(".") and p.parts[0] != ".yourbert"
    )
    return {path.as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main(place: str, mode: str, first: str, stride: str, *stages: str) -> None:
    os.chdir(place)
    Resume.due = lambda resume: True  # type: ignore[method-assign]  # a state after every step
    project(Path())
    for stage in STAGES:
        before = hashes()
        code, points = in_a_fork(stage, mode, 0)
        assert code == 0, stage
        if stage not in stages:
            continue
        whole = hashes()
        made = [name for name in whole if whole[name] != before.get(name)]
        for at in range(int(first), points + 1, int(stride)):
            for name in made:
                Path(name).unlink(missing_ok=True)
            shutil.rmtree(".yourbert", ignore_errors=True)
            struck, _ = in_a_fork(stage, mode, at)
            parts = len([*Path().rglob(".*.part")])
            again, _ = in_a_fork(stage, mode, 0)
            ended = hashes()
            differs = [name for name in whole.keys() | ended.keys() if whole.get(name) != ended.get(name)]
            differs = sorted(name for name in differs if not name.startswith(TIMED) or name not in ended)
            found = {"stage": stage, "at": at, "of": points, "struck": struck, "parts": parts, "again": again}
            print(json.dumps(found | {"differs": differs}), flush=True)
            for path in Path().rglob(".*.part"):
                path.unlink()


if __name__ == "__main__":
    main(*sys.argv[1:])
