"""A data file as bytes one can trust, and as numbered lines of text.

What is not a plain file, not the format its name says, not UTF-8, or not the same file at the end as at the start
is named here, before anything believes it. Only "\\n" ends a line: U+2028 and its kin are part of a text.
"""

from __future__ import annotations

import gzip
import logging
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from yourbert.core.errors import Problem, fail

LOGGER = logging.getLogger("yourbert")

FIELD_LIMIT = 1_000_000  # characters of one field; a longer one is a swallowed file more often than a text
LINE_LIMIT = 16 * FIELD_LIMIT  # bytes of one line
HEAD = 4096  # bytes looked at to recognise a file
BOM = b"\xef\xbb\xbf"

MAGIC_BYTES: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "a gzip file"),
    (b"PK\x03\x04", "a zip archive or a spreadsheet"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"PAR1", "a parquet file"),
    (b"\xd0\xcf\x11\xe0", "an old Excel file"),
    (b"%PDF", "a PDF"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
)


def check_regular_file(path: Path) -> os.stat_result:
    """The state of a plain, readable file. Raises UserError (D29); a FIFO is never opened."""
    try:
        found = path.stat()
    except OSError as error:
        fail("D29", f"cannot read it ({error.strerror})", where=str(path), fix=f"correct the path{_nearby_files(path)}")
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or device"
        fail("D29", f"it is {kind}, not a file", where=str(path), fix="name a plain file")
    if not os.access(path, os.R_OK):
        fail("D29", "no permission to read it", where=str(path), fix="change the file's permissions")
    return found


def _nearby_files(path: Path) -> str:
    """The files that stand where a missing one was looked for, a few of them."""
    names = sorted(p.name for p in path.parent.glob("*") if p.is_file())[:8] if path.parent.is_dir() else []
    return f" (there are {', '.join(names)})" if names else ""


@contextmanager
def open_data_file(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a text file, unpacked when its name ends in .gz. Raises UserError (D08, D28, D29, D30)."""
    before = check_regular_file(path)
    packed = path.suffix == ".gz"
    try:
        with path.open("rb") as raw:
            _check_magic(path, raw.read(HEAD), packed)
            raw.seek(0)
            with cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if packed else raw as file:
                if packed:
                    _check_magic(path, file.read(HEAD), packed=False)
                    file.seek(0)
                yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        fail("D30", f"the gzip file is damaged ({error})", where=str(path), fix="fetch or compress it again")
    check_unchanged(path, before)


def check_unchanged(path: Path, before: os.stat_result) -> None:
    """Raises UserError (D28) when the file is no longer the one it was."""
    after = path.stat()
    if (after.st_size, after.st_mtime_ns, after.st_ino) != (
        before.st_size,
        before.st_mtime_ns,
        before.st_ino,
    ):
        fail(
            "D28",
            "the file changed while it was read",
            where=str(path),
            fix="run again when nothing writes to it",
        )


def _check_magic(path: Path, head: bytes, packed: bool) -> None:
    if packed:
        if not head.startswith(b"\x1f\x8b"):
            fail(
                "D30",
                "the name says gzip, the content is not",
                where=str(path),
                fix="drop .gz from the name or compress it",
            )
        return
    start = head.removeprefix(BOM).lstrip().lower()
    for magic, kind in MAGIC_BYTES:
        if head.startswith(magic) or start.startswith(magic):
            fail(
                "D30",
                f"it looks like {kind}, not a table",
                where=str(path),
                fix="unpack, export or fetch it again",
            )
    # After those: a packed file, too, may hold many zeros.
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or head.count(0) > len(head) // 4:
        found = " ".join(f"0x{byte:02x}" for byte in head[:2])
        fail(
            "D08",
            f"UTF-16, not UTF-8 (byte offset 0: {found})",
            where=f"{path}:1",
            fix="save the file again as UTF-8",
        )


class Lines:
    """The lines of an open text file, with their "\\n", counted from 1.

    faults: what is wrong inside a line that was yielded, by its number; its row is to be rejected. The reader of the
    lines takes them out. A byte order mark is dropped.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self._file = path, file
        self.faults: dict[int, Problem] = {}

    def __iter__(self) -> Iterator[str]:
        offset = 0
        for number, line in enumerate(iter(partial(self._file.readline, LINE_LIMIT), b""), start=1):
            if number == 1 and line.startswith(BOM):
                LOGGER.info("%s: begins with a byte order mark, which is dropped", self.path)
                offset, line = len(BOM), line.removeprefix(BOM)
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                text = self._undecoded(number, offset, line, error)
            offset += len(line)
            if "\0" in text:
                where = f"{self.path}:{number}:{text.index(chr(0)) + 1}"
                self.faults.setdefault(number, Problem("D07", "a NUL byte", where, "remove it"))
            if len(line) == LINE_LIMIT and text[-1] != "\n":
                offset += self._skip_rest(number)
                text = "\n"
            yield text

    def _undecoded(self, number: int, offset: int, line: bytes, error: UnicodeDecodeError) -> str:
        """Notes the fault and lets the line's separators be seen all the same."""
        found = " ".join(f"0x{byte:02x}" for byte in line[error.start : error.end])
        column = len(line[: error.start].decode()) + 1
        what = f"{found} at byte offset {offset + error.start} is not UTF-8"
        fix = "save the file again as UTF-8"
        self.faults[number] = Problem("D08", what, f"{self.path}:{number}:{column}", fix)
        return line.decode(errors="replace")

    def _skip_rest(self, number: int) -> int:
        what = f"a line of more than {LINE_LIMIT} bytes"
        self.faults[number] = Problem(
            "D19", what, f"{self.path}:{number}", "shorten it, or end the line where its row ends"
        )
        skipped = 0
        while piece := self._file.readline(LINE_LIMIT):
            skipped += len(piece)
            if piece.endswith(b"\n"):
                break
        return skipped
