"""A lock that one process has at a time. A process that is killed lets go of it."""

from __future__ import annotations

import fcntl
import logging
import os
from dataclasses import dataclass
from pathlib import Path

LOGGER = logging.getLogger("yourbert")


@dataclass(frozen=True)
class Lock:
    """What `take` gave; `works` is False where the file system has no locks, so that nobody is kept out."""

    path: Path
    descriptor: int
    works: bool

    def give_back(self) -> None:
        """The file goes first, while nobody else can have its lock."""
        self.path.unlink(missing_ok=True)
        os.close(self.descriptor)


def lock_of(target: Path) -> Path:
    """The file that stands for the right to write `target`: beside it, as `target` itself may be removed."""
    return target.with_name(f".{target.name}.lock")


def take(path: Path) -> Lock | None:
    """None if another process has it. Raises OSError where no file can be made.

    Whoever had it removes the file, so a lock counts only on the file that bears the name now.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            LOGGER.info("no locks on this file system (%s): %s", error.strerror, path.parent)
            return Lock(path, descriptor, works=False)
        if _is(path, descriptor):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, b"process %d" % os.getpid())
            return Lock(path, descriptor, works=True)
        os.close(descriptor)


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def owner(path: Path) -> str:
    """Who has the lock, in words; "" where that is not known."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
