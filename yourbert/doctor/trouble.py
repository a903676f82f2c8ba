"""One thing that is wrong with a project, told like any other mistake, and what mends it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from yourbert.core.errors import Problem


@dataclass(frozen=True)
class Trouble(Problem):
    """A problem, and what does as its `fix` says: mend; None where only a person can."""

    mend: Callable[[], None] | None = None

    __str__ = Problem.__str__


def remove(paths: Iterable[Path]) -> None:
    """Removes files, and folders with all that is in them; what is gone already is no trouble."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def kept_aside(root: Path, path: Path) -> Path:
    """Moves a broken file to .yourbert/doctor, under a name that is free, and says where it lies now."""
    folder = root / ".yourbert" / "doctor"
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while (place := folder / f"{path.name}.{number}").exists():
        number += 1
    path.replace(place)
    return place
