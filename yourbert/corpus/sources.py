"""Opens data files safely, as bytes or as numbered lines of text.

A file that is not regular, not of the format of its name, not UTF-8, or that changes while it is read, is reported
here, before its content is used. Only "\\n" ends a line: U+2028 and similar characters are part of a text.
"""

from __future__ import annotations

import gzip
import logging
import math
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import BinaryIO, cast

from yourbert.core.errors import Problem, fail, quoted

logger = logging.getLogger("yourbert")

FIELD_LIMIT = 1_000_000  # characters of one field; a longer one is probably rows merged by a stray quote
LINE_LIMIT = 16 * FIELD_LIMIT  # bytes of one line
# A text file that unpacks to more than this, and to more than so many times its size, was made to exhaust a machine.
UNPACKED_LIMIT, UNPACKED_RATIO = 256 << 20, 50
HEAD = 4096  # bytes from which the format of a file is recognized
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
    """The `stat` of a regular, readable file. Raises UserError (D29); a FIFO is never opened."""
    try:
        status = path.stat()
    except OSError as error:
        what = f"cannot read it ({error.strerror})"
        if path.is_symlink():
            what = f"it is a link to {quoted(os.readlink(path))}, which cannot be read ({error.strerror})"
        fail("D29", what, where=str(path), fix=f"correct the path{_nearby_files(path)}")
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
        fail("D29", f"it is {kind}, not a file", where=str(path), fix="name a regular file")
    if not os.access(path, os.R_OK):
        fail("D29", "no permission to read it", where=str(path), fix="change the file's permissions")
    return status


def _nearby_files(path: Path) -> str:
    """For a message, up to eight names of files in the folder of a missing one."""
    names = sorted(p.name for p in path.parent.glob("*") if p.is_file())[:8] if path.parent.is_dir() else []
    return f" (there are {', '.join(names)})" if names else ""


@contextmanager
def open_data_file(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a text file, decompressed if its name ends in .gz. Raises UserError (D08, D28, D29, D30)."""
    before = check_regular_file(path)
    compressed = path.suffix == ".gz"
    try:
        with path.open("rb") as raw:
            _check_magic(path, raw.read(HEAD), compressed)
            raw.seek(0)
            with cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if compressed else raw as file:
                if compressed:
                    _check_magic(path, file.read(HEAD), compressed=False)
                    file.seek(0)
                yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        fail("D30", f"the gzip file is damaged ({error})", where=str(path), fix="download or compress it again")
    check_unchanged(path, before)


def check_unchanged(path: Path, before: os.stat_result) -> None:
    """Raises UserError (D28) if the size, time or inode of the file differs from that in `before`."""
    after = path.stat()
    if any(getattr(after, key) != getattr(before, key) for key in ("st_size", "st_mtime_ns", "st_ino")):
        fail("D28", "the file changed while it was read", where=str(path), fix="run again when nothing writes to it")


def _check_magic(path: Path, head: bytes, compressed: bool) -> None:
    if compressed:
        if not head.startswith(b"\x1f\x8b"):
            what = "the name ends in .gz, but the content is not gzip"
            fail("D30", what, where=str(path), fix="remove .gz from the name, or compress the file")
        return
    start = head.removeprefix(BOM).lstrip().lower()
    for magic, kind in MAGIC_BYTES:
        if head.startswith(magic) or start.startswith(magic):
            what = f"it looks like {kind}, not a table"
            fail("D30", what, where=str(path), fix="unpack, export or download it again")
    # Checked last, because the formats above may contain many zero bytes, too.
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or head.count(0) > len(head) // 4:
        what = f"UTF-16, not UTF-8 (byte offset 0: {' '.join(f'0x{byte:02x}' for byte in head[:2])})"
        fail("D08", what, where=f"{path}:1", fix="save the file as UTF-8")


@cache
def _note_byte_order_mark(path: Path) -> None:
    """Logs it once for each file, although a file is read several times."""
    logger.info("%s: starts with a byte order mark, which is ignored", path)


class Lines:
    """The lines of an open text file, with their "\\n" but without a byte order mark.

    faults: the problems in lines that were yielded, by line number from 1. The caller removes them.
    Raises UserError (D30) for a compressed file that unpacks to far more than its size.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self._file = path, file
        self.faults: dict[int, Problem] = {}
        self._limit = math.inf
        if path.suffix == ".gz" and path.is_file():
            self._limit = max(UNPACKED_LIMIT, UNPACKED_RATIO * path.stat().st_size)

    def __iter__(self) -> Iterator[str]:
        end = 0
        for number, line in enumerate(iter(partial(self._file.readline, LINE_LIMIT), b""), start=1):
            offset, end = end, end + len(line)
            self._check_size(end)
            if line == b"\n":  # a file may consist of them
                yield "\n"
                continue
            if number == 1 and line.startswith(BOM):
                _note_byte_order_mark(self.path)
                offset, line = len(BOM), line.removeprefix(BOM)
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                text = self._undecoded(number, offset, line, error)
            if "\0" in text:
                where = f"{self.path}:{number}:{text.index(chr(0)) + 1}"
                self.faults.setdefault(number, Problem("D07", "a NUL byte", where, "remove it"))
            if len(line) == LINE_LIMIT and text[-1] != "\n":
                end += self._skip_rest(number, end)
                text = "\n"
            yield text

    def _undecoded(self, number: int, offset: int, line: bytes, error: UnicodeDecodeError) -> str:
        """Records the fault; returns the line with replacement characters, so that it can be split into fields."""
        invalid = " ".join(f"0x{byte:02x}" for byte in line[error.start : error.end])
        column = len(line[: error.start].decode()) + 1
        guess = line[error.start : error.end].decode("cp1252", errors="replace")
        hint = f"; in Windows-1252 it is {quoted(guess)}" if guess.isprintable() and "\ufffd" not in guess else ""
        what = f"{invalid} at byte offset {offset + error.start} is not UTF-8{hint}"
        self.faults[number] = Problem("D08", what, f"{self.path}:{number}:{column}", "save the file as UTF-8")
        return line.decode(errors="replace")

    def _check_size(self, offset: int) -> None:
        if offset > self._limit:
            what = f"the compressed file unpacks to more than {UNPACKED_RATIO} times its size"
            fail("D30", what, where=str(self.path), fix="unpack it and look at what it contains")

    def _skip_rest(self, number: int, offset: int) -> int:
        what, fix = f"a line of more than {LINE_LIMIT} bytes", "shorten it, or end the line where its row ends"
        self.faults[number] = Problem("D19", what, f"{self.path}:{number}", fix)
        skipped = 0
        while part := self._file.readline(LINE_LIMIT):
            skipped += len(part)
            self._check_size(offset + skipped)
            if part.endswith(b"\n"):
                break
        return skipped
