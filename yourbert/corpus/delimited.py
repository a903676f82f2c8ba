"""Rows of a table with a delimiter and quotes: the standard library's `csv`, with faults found instead of swallowed.

One stray quote makes `csv` take the rest of a file for one field. Here its strict mode, a limit on a field's size
and a look at what a quoted line break encloses catch that; the line with the stray quote is named, and reading goes
on with the line after it. Rows are what `csv.reader` yields with doubled quotes, nothing else.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from yourbert.core.errors import Problem, fail, quoted
from yourbert.corpus.sources import FIELD_LIMIT, Lines, open_data_file

Cells = list[str]
LooksLikeRows = Callable[[list[Cells]], bool]


def find_delimiter(path: Path) -> str:
    """Tab, comma or semicolon: the one the header line has most of, outside quotes; tab when in doubt."""
    if path.name.removesuffix(".gz").endswith(".tsv"):
        return "\t"
    with open_data_file(path) as file:
        header = re.sub(r'"[^"]*"', "", next(iter(Lines(path, file)), ""))
    return max("\t,;", key=header.count) if any(c in header for c in "\t,;") else ","


class Delimited:
    """The records of one file; `columns` is known once reading has begun.

    looks_like_rows: whether each of some lines, split at every delimiter, looks like a row of this table. If the first
    and the last line of a record do, a stray quote has merged rows.
    """

    def __init__(self, path: Path, delimiter: str, looks_like_rows: LooksLikeRows | None = None) -> None:
        self.path, self.delimiter, self.looks_like_rows = path, delimiter, looks_like_rows
        self.columns: Cells = []
        self.blank_lines = 0
        self._held: list[str] = []  # the lines of the record being read
        self._again: deque[str] = deque()  # lines to be read a second time, after a stray quote
        self._first = 1  # the number of the first line held

    def __iter__(self) -> Iterator[tuple[int, Cells | Problem]]:
        """(line it starts on, cells or what is wrong with it) of each row; the header is kept, blank lines counted."""
        csv.field_size_limit(FIELD_LIMIT)
        with open_data_file(self.path) as file:
            lines = Lines(self.path, file)
            records = self._records(lines, iter(lines))
            self._take_header(records)
            width = len(self.columns)
            for line, cells in records:
                if isinstance(cells, Problem) or len(cells) == width:
                    yield line, cells
                elif cells:
                    yield line, self._ragged(line, cells)
                else:
                    self.blank_lines += 1

    def _take_header(self, records: Iterator[tuple[int, Cells | Problem]]) -> None:
        _, cells = next(records, (1, []))
        if isinstance(cells, Problem):
            fail(cells.code, f"in the header: {cells.what}", where=cells.where, fix=cells.fix)
        if not any(cell.strip() for cell in cells):
            fail(
                "D10",
                "no header: the file is empty or its first line blank",
                where=f"{self.path}:1",
                fix="add the header line",
            )
        self.columns = cells

    def _feed(self, lines: Iterator[str]) -> Iterator[str]:
        while line := self._again.popleft() if self._again else next(lines, ""):
            self._held.append(line)
            yield line

    def _records(self, lines: Lines, source: Iterator[str]) -> Iterator[tuple[int, Cells | Problem]]:
        held, faults = self._held, lines.faults
        ended = False
        while not ended:
            reader = csv.reader(self._feed(source), delimiter=self.delimiter, strict=True)
            try:
                for cells in reader:
                    if len(held) > 1 and self._swallowed():
                        yield self._recover(None)
                        break
                    line = self._first
                    self._first += len(held)
                    if faults:
                        yield line, self._fault(faults, line) or cells
                    else:
                        yield line, cells
                    held.clear()
                else:
                    ended = True
            except csv.Error as error:
                yield self._recover(error)

    def _fault(self, faults: dict[int, Problem], line: int) -> Problem | None:
        """What is wrong inside the lines of the record just read."""
        found = [faults.pop(n) for n in range(line, self._first) if n in faults]
        return found[0] if found else None

    def _swallowed(self) -> bool:
        """Whether the first and the last line of this record are rows of their own: a stray quote ran them together."""
        if self.looks_like_rows is None or not self.columns:
            return False
        ends = [self._held[i].rstrip("\r\n").split(self.delimiter) for i in (0, -1)]
        return all(len(row) == len(self.columns) for row in ends) and self.looks_like_rows(ends)

    def _recover(self, error: csv.Error | None) -> tuple[int, Problem]:
        """Names what broke the record, and lines up what follows the line at fault to be read again."""
        code, index, column = self._diagnose(str(error or ""))
        line = self._first + index
        what, fix = {
            "D03": (
                "a quote opens here and is not closed before a delimiter",
                "close it, or double quotes inside a quoted field",
            ),
            "D06": ("a carriage return (CR) alone", "end lines with LF or CRLF"),
            "D19": (f"a field of more than {FIELD_LIMIT} characters", "shorten it"),
        }[code]
        self._again.extendleft(reversed(self._held[index + 1 :]))
        self._held.clear()
        self._first = line + 1
        return line, Problem(code, what, f"{self.path}:{line}:{column}", fix)

    def _diagnose(self, message: str) -> tuple[str, int, int]:
        """(code, index of the held line, column in it) of what broke the record."""
        text = "".join(self._held)
        if message.startswith("new-line character"):
            at = re.search(r"\r(?!\n)", text)
            return "D06", *_place(text, at.start() if at else 0)
        if message.startswith("field larger") and len(self._held) == 1:
            return "D19", 0, 1
        return "D03", *_place(text, self._stray_quote(text, swallowing=not message))

    def _stray_quote(self, text: str, swallowing: bool) -> int:
        """Where the first quoted field begins that is not closed, or that runs over a line's end when `swallowing`."""
        whole = re.compile(rf'"(?:[^"]|"")*+"(?=[{self.delimiter}\r\n]|\Z)')
        at = 0
        while at < len(text):
            field = whole.match(text, at)
            if text[at] == '"' and (field is None or (swallowing and "\n" in field[0])):
                return at
            end = re.compile(rf"[{self.delimiter}\n]").search(text, field.end() if field else at)
            if end is None:
                break
            at = end.end()
        return 0

    def _ragged(self, line: int, cells: Cells) -> Problem:
        has = f"{len(cells)} field{'s' * (len(cells) != 1)}, the header has {len(self.columns)}"
        if len(cells) > len(self.columns):
            extra = f"; the first extra one is {quoted(cells[len(self.columns)])}"
        else:
            extra = f"; the row starts {quoted(self.delimiter.join(cells))}"
        return Problem(
            "D01",
            has + extra,
            f"{self.path}:{line}",
            "correct the row, or quote a field that holds a delimiter",
        )


def _place(text: str, at: int) -> tuple[int, int]:
    """(index of the line, column from 1) of a position."""
    return text.count("\n", 0, at), at - text.rfind("\n", 0, at)
