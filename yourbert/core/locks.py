"""A file lock that one process holds at a time; the operating system releases it when the process dies.

Linux and macOS have `flock`, Windows has `msvcrt.locking`. Without either nobody is excluded, and a message says so.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

fcntl: Any
msvcrt: Any
try:
    import fcntl
except ImportError:
    fcntl = None
try:
    import msvcrt
except ImportError:
    msvcrt = None

# Windows locks bytes, and no other process can read a locked byte; this one lies behind the text of the file.
LOCKED_BYTE = 1 << 30
logger = logging.getLogger("yourbert")


@dataclass(frozen=True)
class Lock:
    """A lock that `acquire` acquired; on a file system without locks it excludes nobody."""

    path: Path
    descriptor: int

    def release(self) -> None:
        """Removes the file before releasing the lock, while no other process can hold it."""
        with suppress(PermissionError):  # Windows does not remove an open file
            self.path.unlink(missing_ok=True)
        os.close(self.descriptor)
        if fcntl is None:
            with suppress(PermissionError):  # another process has opened it, and removes it
                self.path.unlink(missing_ok=True)


def lock_of(target: Path) -> Path:
    """The lock file of `target`: beside it, because `target` itself may be removed."""
    return target.with_name(f".{target.name}.lock")


def acquire(path: Path) -> Lock | None:
    """Acquires a lock; None if another process holds it. Raises OSError where no file can be created.

    The previous holder removes the file, so a lock counts only if `path` still names the locked file. On a file system
    without locks every process gets one, and a message says so.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not try_lock(descriptor):
                os.close(descriptor)
                return None
        except OSError as error:
            logger.info("no locks on this file system (%s): %s", error.strerror, path.parent)
            return Lock(path, descriptor)
        if _names(path, descriptor):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, b"process %d" % os.getpid())
            return Lock(path, descriptor)
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Locks an open file, unless another process has locked it. Raises OSError where the file system has no locks."""
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
    if msvcrt is None:
        raise OSError(0, "this system has no file locks")
    place = os.lseek(descriptor, 0, os.SEEK_CUR)
    try:
        os.lseek(descriptor, LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except PermissionError:
        return False
    finally:
        os.lseek(descriptor, place, os.SEEK_SET)
    return True


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
