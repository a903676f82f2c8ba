"""What does not belong into a project: unfinished files, folders of killed experiments, pipes among the data."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil

from yourbert.core.storage import UNFINISHED
from yourbert.doctor.trouble import Trouble, remove

FOLDERS = ("build", "data", "metrics", "plots", "report", ".dvc/cache", ".yourbert")
OF_DVC = re.compile(r"\.[\w-]{22}\.tmp")


def leftover_troubles(root: Path) -> Iterator[Trouble]:
    files = [path for folder in FOLDERS for path in sorted((root / folder).rglob(".*")) if _is_left(path)]
    if files:
        size = sum(map(_bytes, files)) / 1e6
        what = f"{len(files)} unfinished temporary files, {size:.1f} MB"
        yield Trouble("V10", what, _first(root, files), "remove them", partial(remove, files))
    folders = [path for path in sorted((root / ".dvc/tmp/exps/standalone").glob("tmp*")) if path.is_dir()]
    lived_in = _lived_in() if folders else set()
    left = [path for path in folders if path not in lived_in]
    if left:
        what = f"{len(left)} folders of killed experiments; their resume state is elsewhere and is kept"
        yield Trouble("V11", what, _first(root, left), "remove them", partial(remove, left))


def pipe_troubles(root: Path) -> Iterator[Trouble]:
    """Pipes, sockets and devices among the data: DVC opens them to hash them, and waits forever."""
    for path in sorted((root / "data").rglob("*")):
        if path.exists() and not path.is_file() and not path.is_dir():
            what = "a pipe, socket or device; DVC would wait for its content forever"
            yield Trouble("V14", what, _first(root, [path]), "remove it", partial(remove, [path]))


def _is_left(path: Path) -> bool:
    ours = UNFINISHED.fullmatch(path.name)
    ended = ours and not psutil.pid_exists(int(ours["pid"]))
    return bool(ended or OF_DVC.fullmatch(path.name))


def _bytes(path: Path) -> int:
    """The size of a file, or of all files below a folder."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files)


def _lived_in() -> set[Path]:
    """The working directories of all processes, and their parents."""
    found: set[Path] = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            place = Path(process.cwd())
            found |= {place, *place.parents}
    return found


def _first(root: Path, paths: list[Path]) -> str:
    return paths[0].relative_to(root).as_posix()
