"""The processes that use a project: DVC, or a stage that it started.

DVC locks .dvc/tmp/lock while it runs and lists in .dvc/tmp/rwlock which process uses which files. A stage whose DVC was
killed keeps running and writing.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import psutil

from yourbert.core.locks import try_lock


def owners(root: Path) -> list[str]:
    """A line for each process that uses the project."""
    found = {pid: f"process {pid} ({words})" for pid, words in [*_stages(root), *_noted(root)]}
    if not found and _locked(root / ".dvc" / "tmp" / "lock"):
        return ["a dvc command"]
    return [found[pid] for pid in sorted(found)]


def _locked(path: Path) -> bool:
    try:
        with path.open("r+", encoding="utf-8") as file:
            return not try_lock(file.fileno())
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _noted(root: Path) -> Iterator[tuple[int, str]]:
    """The running processes of .dvc/tmp/rwlock; none if that file is corrupt."""
    try:
        noted = json.loads((root / ".dvc" / "tmp" / "rwlock").read_text(encoding="utf-8"))
        infos = [*noted.get("write", {}).values(), *(one for many in noted.get("read", {}).values() for one in many)]
        alive = {int(info["pid"]): str(info["cmd"]) for info in infos if info and psutil.pid_exists(int(info["pid"]))}
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return
    yield from alive.items()


def _stages(root: Path) -> Iterator[tuple[int, str]]:
    """Processes that run a stage of this project, or of an experiment in its temporary folders."""
    for process in psutil.process_iter(["pid", "cmdline"]):
        words = process.info["cmdline"] or []
        with contextlib.suppress(psutil.Error, OSError):
            if "-m" in words and any(word.startswith("stages.") for word in words):
                place = Path(process.cwd())
                if place == root or root / ".dvc" / "tmp" in place.parents:
                    yield process.info["pid"], " ".join(words[words.index("-m") :])
