"""A file lock that one process holds at a time; the kernel releases it when the process dies."""

from __future__ import annotations

import fcntl
import logging
import os
from dataclasses import dataclass
from pathlib import Path

LOGGER = logging.getLogger("yourbert")


@dataclass(frozen=True)
class Lock:
    """A lock that `take` acquired; on a file system without locks it excludes nobody."""

    path: Path
    descriptor: int

    def give_back(self) -> None:
        """Removes the file before releasing the lock, while no other process can hold it."""
        self.path.unlink(missing_ok=True)
        os.close(self.descriptor)


def lock_of(target: Path) -> Path:
    """The lock file of `target`: beside it, because `target` itself may be removed."""
    return target.with_name(f".{target.name}.lock")


def take(path: Path) -> Lock | None:
    """Acquires a lock; None if another process holds it. Raises OSError where no file can be created.

    The previous holder removes the file, so a lock counts only if `path` still names the locked file. On a file system
    without locks every process gets one, and a message says so.
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
            return Lock(path, descriptor)
        if _names(path, descriptor):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, b"process %d" % os.getpid())
            return Lock(path, descriptor)
        os.close(descriptor)


def _names(path: Path, descriptor: int) -> bool:
    """Whether `path` still names the open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def owner(path: Path) -> str:
    """The process that holds the lock, in words; "" if unknown."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
