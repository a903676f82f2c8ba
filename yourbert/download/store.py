"""What a file is, is its content: hashes that identify it, and a store of fetched files under those hashes.

Nothing in the store is trusted: a file is hashed each time it is taken out, and a damaged one is dropped.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from yourbert.core.errors import fail
from yourbert.core.locks import Lock, lock_of, owner, take
from yourbert.core.storage import link_or_copy, sha256_of, write_json

LOGGER = logging.getLogger("yourbert")
OWN_CACHE_FIX = "set YOURBERT_CACHE to a folder you may write to"
CHUNK = 1 << 18
SHA256_LENGTH = 64
HTML_STARTS = (b"<!doctype html", b"<html", b"<head", b"<!--")
SECONDS_BETWEEN_LOOKS = 0.1


@dataclass(frozen=True)
class Identity:
    """Length and hashes of a file; git_blob is git's own: sha1 of "blob <size>\\0" and the bytes."""

    sha256: str
    git_blob: str
    size: int

    @classmethod
    def of(cls, path: Path) -> Identity:
        size = path.stat().st_size
        plain, blob = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                plain.update(chunk)
                blob.update(chunk)
        return cls(plain.hexdigest(), blob.hexdigest(), size)


@dataclass(frozen=True)
class Wanted:
    """What a file must be, as far as it is known; None where it is not."""

    sha256: str | None = None
    git_blob: str | None = None
    size: int | None = None

    @property
    def pinned(self) -> bool:
        return bool(self.sha256 or self.git_blob)

    def problem(self, found: Identity, path: Path) -> tuple[str, str] | None:
        """(code, what is wrong) with the bytes in `path`, or None."""
        differs = self._differs(found)
        if (differs or not self.pinned) and _is_html(path):
            return "W12", "a web page came in place of the file (a log-in or an error page?)"
        if self.size is not None and found.size != self.size:
            return "W04", f"the file has {found.size} bytes in place of {self.size}"
        return differs

    def _differs(self, found: Identity) -> tuple[str, str] | None:
        if self.sha256 and found.sha256 != self.sha256:
            return "W05", f"wrong content: sha256 {found.sha256} in place of {self.sha256}"
        if self.git_blob and found.git_blob != self.git_blob:
            return "W05", f"wrong content: git blob {found.git_blob} in place of {self.git_blob}"
        return None


def _is_html(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(HTML_STARTS)


@contextlib.contextmanager
def alone(target: Path, what: str, seconds: float) -> Iterator[bool]:
    """Holds `target` against other processes; yields False where the file system has no locks.

    A process that is killed lets go. what: the words for the one line that a waiting process logs.
    Raises UserError (B11) when another process holds it for longer than `seconds`.
    """
    path = lock_of(target)
    deadline, told = time.monotonic() + seconds, False
    while not (held := _taken(path)):
        who = owner(path)
        if time.monotonic() > deadline:
            who = who or "another process"
            fail("B11", f"{who} still fetches {what}", where=str(target), fix="wait for it, or end it")
        if not told and who:
            LOGGER.info("waiting for %s, which fetches %s", who, what)
            told = True
        time.sleep(SECONDS_BETWEEN_LOOKS)
    try:
        yield held.works
    finally:
        held.give_back()


def _taken(path: Path) -> Lock | None:
    try:
        return take(path)
    except OSError as error:
        fail("R07", f"cannot write here: {error.strerror or error}", where=str(path.parent), fix=OWN_CACHE_FIX)


class Cache:
    """A folder of files under their hashes, and of small facts (JSON) under names.

    Raises UserError (R07) if the folder cannot be made or written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
            fail("R07", "fetched files cannot be kept here", where=str(folder), fix=OWN_CACHE_FIX)

    def place(self, kind: Literal["sha256", "git"], digest: str) -> Path:
        """Where the file with this hash belongs, whether it is there or not."""
        return self.folder / kind / digest[:2] / digest

    def incoming(self, url: str) -> Path:
        """Where a file gathers whose hash is not known before."""
        return self.folder / "incoming" / hashlib.sha256(url.encode()).hexdigest()[:32]

    def find(self, sha256: str) -> Path | None:
        """The file with this hash, if it is there and sound; a damaged one is removed."""
        path = self.place("sha256", sha256)
        if len(sha256) != SHA256_LENGTH or not sha256.isalnum() or not path.is_file():
            return None
        if sha256_of(path) == sha256:
            return path
        LOGGER.info("%s is damaged and is removed", path)
        path.unlink(missing_ok=True)
        return None

    def add(self, path: Path) -> str:
        """Keeps a file under its sha256, which it returns; by hard link where that is possible."""
        sha256 = sha256_of(path)
        if self.find(sha256) is None:
            link_or_copy(path, self.place("sha256", sha256))
        return sha256

    def recall(self, kind: str, name: str) -> dict[str, Any] | None:
        """What `remember` was told of a name, or None."""
        try:
            facts = json.loads(self._facts(kind, name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return facts if isinstance(facts, dict) else None

    def remember(self, kind: str, name: str, facts: dict[str, Any]) -> None:
        write_json(self._facts(kind, name), {"name": name, **facts})

    def _facts(self, kind: str, name: str) -> Path:
        return self.folder / kind / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"
