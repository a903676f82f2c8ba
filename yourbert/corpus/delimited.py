"""Records of a CSV or TSV file: the standard library's `csv`, with malformed records reported instead of merged.

One stray quote makes `csv` read the rest of a file as a single field, or several rows as one. Here its strict mode, a
limit on the size of a field and a check of quoted line breaks detect that. The line with the stray quote is reported,
and reading continues with the next line. All other records are those of `csv.reader`.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any

from yourbert.core.errors import Problem, fail, quoted
from yourbert.core.tasks import Quoting
from yourbert.corpus.sources import FIELD_LIMIT, Lines, open_data_file

Cells = list[str]
LooksLikeRows = Callable[[list[Cells]], bool]
DELIMITERS = "\t,;|"
SEPARATOR = re.compile(r"sep=([\t,;|:^~])\r?\n?")  # what Excel writes before the header
HEADER_LINES = 100  # that are searched for the end of a header with quoted line breaks
KNOWN_RECORDS, KNOWN_VALUES = 10_000, 64  # whose values are compared with lines that may be swallowed rows


@dataclass(frozen=True)
class Dialect:
    """How a file separates fields. header: the number of the header's first line."""

    delimiter: str
    header: int = 1
    quoting: Quoting = "standard"

    @property
    def csv(self) -> dict[str, Any]:
        """The arguments of `csv.reader`."""
        constant = csv.QUOTE_NONE if self.quoting == "none" else csv.QUOTE_MINIMAL
        return {"delimiter": self.delimiter, "quoting": constant, "strict": True}


def find_dialect(path: Path, quoting: Quoting = "standard") -> Dialect:
    """The dialect by the first record, which may span lines, or by a line `sep=;` before it.

    The delimiter is the most frequent of tab, comma, semicolon and bar in the header, outside quotes; a .tsv file has
    tabs if its header has one.
    """
    header = ""
    with open_data_file(path) as file:
        lines = iter(Lines(path, file))
        first = next(lines, "")
        if found := SEPARATOR.fullmatch(first):
            return Dialect(found[1], 2, quoting)
        for line in chain([first], islice(lines, HEADER_LINES)):
            header += line
            if quoting == "none" or header.count('"') % 2 == 0:
                break
    if quoting == "standard":
        header = re.sub(r'"[^"]*"', "", header)
    usual = "\t" if path.name.removesuffix(".gz").endswith(".tsv") else ","
    candidates = [delimiter for delimiter in DELIMITERS if delimiter in header] or [usual]
    if usual == "\t" and usual in candidates:
        return Dialect("\t", 1, quoting)
    return Dialect(max(candidates, key=header.count), 1, quoting)  # of equally frequent ones the first


class Delimited:
    """The records of one file. `columns` is the header, set when iteration starts; `blank_lines` counts blank lines.

    looks_like_rows: gets the cells of two lines that were split at every delimiter, and returns whether both could be
    rows of this table. If the first line of a record and a later one could, a stray quote has merged rows. Without it,
    lines are compared with the values of the file.
    """

    def __init__(self, path: Path, dialect: Dialect, looks_like_rows: LooksLikeRows | None = None) -> None:
        self.path, self.dialect, self.looks_like_rows = path, dialect, looks_like_rows
        self.columns: Cells = []
        self.blank_lines = 0
        self._pending: list[str] = []  # the lines of the record being read
        self._reread: deque[str] = deque()  # lines to read a second time, after a stray quote
        self._first = 1  # the number of the first pending line

    def __iter__(self) -> Iterator[tuple[int, Cells | Problem]]:
        """For each row below the header, the number of its first line, and its cells or the problem with it."""
        csv.field_size_limit(FIELD_LIMIT)
        with open_data_file(self.path) as file:
            lines = Lines(self.path, file)
            source = iter(lines)
            self._first = self.dialect.header
            for _ in range(1, self._first):
                next(source, "")
            records = self._records(lines, source)
            self._read_header(records)
            width = len(self.columns)
            for line, cells in records:
                if isinstance(cells, Problem) or len(cells) == width:
                    yield line, cells
                elif cells:
                    yield line, self._ragged(line, cells)
                else:
                    self.blank_lines += 1

    def _read_header(self, records: Iterator[tuple[int, Cells | Problem]]) -> None:
        _, cells = next(records, (1, []))
        if isinstance(cells, Problem):
            fail(cells.code, f"in the header: {cells.what}", where=cells.where, fix=cells.fix)
        if not any(cell.strip() for cell in cells):
            what = "no header: the file is empty, or its first line is blank"
            fail("D10", what, where=f"{self.path}:{self.dialect.header}", fix="add the header line")
        self.columns = cells

    def _lines(self, source: Iterator[str]) -> Iterator[str]:
        """The lines for `csv.reader`, each also added to the pending ones."""
        while line := self._reread.popleft() if self._reread else next(source, ""):
            self._pending.append(line)
            yield line

    def _records(self, lines: Lines, source: Iterator[str]) -> Iterator[tuple[int, Cells | Problem]]:
        pending, faults = self._pending, lines.faults
        ended = False
        # After an error a `csv.reader` cannot continue, so reading resumes with a new one.
        while not ended:
            reader = csv.reader(self._lines(source), **self.dialect.csv)
            try:
                for cells in reader:
                    if len(pending) > 1 and self._merges_rows():
                        yield self._recover(None)
                        break
                    line = self._first
                    self._first += len(pending)
                    if faults:
                        yield line, self._fault(faults, line) or cells
                    else:
                        yield line, cells
                    pending.clear()
                else:
                    ended = True
            except csv.Error as error:
                yield self._recover(error)

    def _fault(self, faults: dict[int, Problem], line: int) -> Problem | None:
        """The first problem in the lines of the record just read, which start at `line`."""
        problems = [faults.pop(n) for n in range(line, self._first) if n in faults]
        return problems[0] if problems else None

    def _merges_rows(self) -> bool:
        """Whether the first line of this record and a later one are rows by themselves, merged by a stray quote."""
        width = len(self.columns)
        lines = [line.rstrip("\r\n").split(self.dialect.delimiter) for line in self._pending]
        if width < 2 or len(lines[0]) != width:
            return False
        others = [cells for cells in lines[1:] if len(cells) == width]
        looks_like_rows = self.looks_like_rows or self._have_known_values
        return any(looks_like_rows([lines[0], cells]) for cells in others)

    def _have_known_values(self, rows: list[Cells]) -> bool:
        """Whether these could be rows, where neither labels nor ids can tell.

        A quoted text rarely has tabs. In other files a part of a text is rarely a value that a column has elsewhere.
        """
        if self.dialect.delimiter == "\t":
            return True
        return all(any(cell in known for cell, known in zip(row, self._known, strict=True)) for row in rows)

    @cached_property
    def _known(self) -> list[set[str]]:
        """The first values of each column, by a separate pass that reads the records as they are."""
        known: list[set[str]] = [set() for _ in self.columns]
        with open_data_file(self.path) as file:
            source = islice(iter(Lines(self.path, file)), self.dialect.header, None)
            try:
                for cells in islice(csv.reader(source, **self.dialect.csv | {"strict": False}), KNOWN_RECORDS):
                    for cell, values in zip(cells, known, strict=False):
                        if cell.strip() and len(values) < KNOWN_VALUES:
                            values.add(cell)
            except csv.Error:
                pass  # the values up to a malformed record are enough
        return known

    def _recover(self, error: csv.Error | None) -> tuple[int, Problem]:
        """The problem with the broken record, and its line; the lines after that one will be read again."""
        code, index, column = self._diagnose(str(error or ""))
        line = self._first + index
        what, fix = {
            "D03": (
                "a quote opens here and is not closed before a delimiter",
                "close it, double the quotes inside the field, or set `quoting: none` if quotes are plain characters",
            ),
            "D06": ("a carriage return (CR) without a line feed (LF)", "end lines with LF or CRLF"),
            "D19": (f"a field of more than {FIELD_LIMIT} characters", "shorten it"),
        }[code]
        self._reread.extendleft(reversed(self._pending[index + 1 :]))
        self._pending.clear()
        self._first = line + 1
        return line, Problem(code, what, f"{self.path}:{line}:{column}", fix)

    def _diagnose(self, message: str) -> tuple[str, int, int]:
        """(code, index of the pending line, column in it) of the fault; `message` is empty for merged rows."""
        text = "".join(self._pending)
        if message.startswith("new-line character"):
            at = re.search(r"\r(?!\n)", text)
            return "D06", *_line_and_column(text, at.start() if at else 0)
        if message.startswith("field larger") and len(self._pending) == 1:
            return "D19", 0, 1
        return "D03", *_line_and_column(text, self._stray_quote(text, merged=not message))

    def _stray_quote(self, text: str, merged: bool) -> int:
        """The offset of the first quoted field that is not closed or, in `merged` rows, that spans lines."""
        closed = re.compile(rf'"(?:[^"]|"")*+"(?=[{re.escape(self.dialect.delimiter)}\r\n]|\Z)')
        at = 0
        while at < len(text):
            field = closed.match(text, at)
            if text[at] == '"' and (field is None or (merged and "\n" in field[0])):
                return at
            end = re.compile(rf"[{re.escape(self.dialect.delimiter)}\n]").search(text, field.end() if field else at)
            if end is None:
                break
            at = end.end()
        return 0

    def _ragged(self, line: int, cells: Cells) -> Problem:
        what = f"{len(cells)} field{'s' * (len(cells) != 1)}, the header has {len(self.columns)}"
        if len(cells) > len(self.columns):
            what += f"; the first extra one is {quoted(cells[len(self.columns)])}"
        else:
            what += f"; the row starts {quoted(self.dialect.delimiter.join(cells))}"
        fix = "correct the row, or quote a field that contains a delimiter"
        return Problem("D01", what, f"{self.path}:{line}", fix)


def _line_and_column(text: str, at: int) -> tuple[int, int]:
    """The line index (from 0) and the column (from 1) of an offset."""
    return text.count("\n", 0, at), at - text.rfind("\n", 0, at)
