"""A problem of a project, and its repair."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from yourbert.core.errors import Problem


@dataclass(frozen=True)
class Trouble(Problem):
    """A problem; `repair` does what its `fix` says, None where that needs a decision."""

    repair: Callable[[], None] | None = None

    __str__ = Problem.__str__


def remove(paths: Iterable[Path]) -> None:
    """Removes files and folders, with their contents; missing ones are ignored."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def kept_aside(root: Path, path: Path) -> Path:
    """Moves a corrupt file to .yourbert/doctor under a free name; returns the new path."""
    folder = root / ".yourbert" / "doctor"
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while (place := folder / f"{path.name}.{number}").exists():
        number += 1
    path.replace(place)
    return place
