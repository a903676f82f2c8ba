"""Checked rows of a labelled file, with counts of every rejected row.

A row is either used or rejected as a whole; label, texts and id are checked in this order. With `on_invalid_row: error`
all problems of a file are one error at its end. With `drop` invalid rows are skipped, and `RowCounts` has their number,
reasons and lines.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Protocol, TypeVar

import numpy as np

from yourbert.config.schema import TaskData
from yourbert.core.errors import SHOWN_PER_FILE, Problem, UserError, fail, nearest, quoted
from yourbert.core.tasks import Split
from yourbert.core.text import HIDDEN, MISSING, chunked, is_empty, label_key
from yourbert.corpus.delimited import Cells, LooksLikeRows
from yourbert.corpus.formats import open_table
from yourbert.corpus.sources import FIELD_LIMIT

MAX_PROBLEMS = 100_000  # after which a file is not read any further
MAX_NOTED = 5  # lines that a message names
LONGEST_MISSING = max(map(len, MISSING))
CHUNK_ROWS, CHUNK_CHARACTERS = 4096, 4_000_000  # the size of a chunk, whichever limit it reaches first
MAX_LISTED = 100  # rejected rows that `RowCounts` lists
DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
FIX_MISSING = "add it, delete the row, or set the task's on_invalid_row: drop"


class HasTexts(Protocol):
    @property
    def texts(self) -> Sequence[str]: ...


WithTexts = TypeVar("WithTexts", bound=HasTexts)


class Row(NamedTuple):
    """A valid row. number: its index in the file, from 0. label: class index, similarity, or None without labels."""

    line: int
    number: int
    id: str
    texts: Sequence[str]
    label: float | None


def first_of(items: Sequence[object], count: int | None = None) -> str:
    """The first items, for a message. count: how many there are, if `items` has only the first of them."""
    count = len(items) if count is None else count
    return ", ".join(map(str, items[:MAX_NOTED])) + (", .." if count > MAX_NOTED else "")


@dataclass
class Noted:
    """Rows that are used, but that a user should look at: their number, and the lines of the first."""

    count: int = 0
    lines: list[int] = field(default_factory=list)

    def add(self, line: int) -> None:
        self.count += 1
        if len(self.lines) < MAX_NOTED:
            self.lines.append(line)

    def __str__(self) -> str:
        return first_of(self.lines, self.count)


@dataclass
class RowCounts:
    """The counts of a file's rows: read = used + rejected. listed: line, code and reason of the first rejected ones."""

    rows_read: int = 0
    rows_used: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    listed: list[tuple[int, str, str]] = field(default_factory=list)
    blank_lines: int = 0
    labels_respelled: int = 0
    line_breaks: Noted = field(default_factory=Noted)
    missing_texts: Noted = field(default_factory=Noted)
    hidden_characters: int = 0
    rows_with_hidden_characters: int = 0

    def reject(self, line: int, code: str, reason: str) -> None:
        self.rejected[code] += 1
        if len(self.listed) < MAX_LISTED:
            self.listed.append((line, code, reason))

    def to_json(self) -> dict[str, Any]:
        assert self.rows_read == self.rows_used + self.rejected.total(), "every row is used or rejected"
        return {
            "rows_read": self.rows_read,
            "rows_used": self.rows_used,
            "rows_rejected": self.rejected.total(),
            "rejected": dict(self.rejected),
            "rejected_lines": [list(entry) for entry in self.listed],
            "blank_lines": self.blank_lines,
            "labels_respelled": self.labels_respelled,
            "hidden_characters": self.hidden_characters,
            "rows_with_hidden_characters": self.rows_with_hidden_characters,
        }


class LabelParser:
    """`parse` maps the text of a label to its class index or similarity, or to a Problem."""

    def __init__(self, data: TaskData) -> None:
        self.column, self.labels = data.label, list(data.labels or [])
        self.index = {text: i for i, text in enumerate(self.labels)}
        self.keys = {label_key(text): i for text, i in self.index.items()}
        self.are_numbers = all(map(DECIMAL.fullmatch, self.labels))
        self.low, self.high = data.range or (0.0, 1.0)
        self.parse = self._class if self.labels else self._similarity

    def _class(self, text: str) -> float | Problem:
        index = self.index.get(text)
        return index if index is not None else self._respelled(text.strip())

    def _respelled(self, text: str) -> float | Problem:
        """A label in another spelling ("0" for "0.0"), or the problem with it."""
        index = self.keys.get(label_key(text))
        if index is not None:
            return index
        if text.lower() in MISSING:
            return self._missing()
        number = Decimal(text) if DECIMAL.fullmatch(text) else None
        known = number is not None and self.are_numbers
        code = "D14" if number is None or not known else "D16" if number == number.to_integral_value() else "D17"
        hint = nearest(text, self.labels) if number is None else ""
        what = f"label {quoted(text)} is not one of {', '.join(self.labels)}{hint}"
        return Problem(code, what, fix="correct the row, or `labels` of the task in params.yaml")

    def _similarity(self, text: str) -> float | Problem:
        if DECIMAL.fullmatch(text) and self.low <= (value := float(text)) <= self.high:
            return value
        if text.strip().lower() in MISSING:
            return self._missing()
        what = f"{quoted(text)} is not a decimal number from {self.low:g} to {self.high:g}"
        return Problem("D18", what, fix="correct the row, or `range` of the task in params.yaml")

    def _missing(self) -> Problem:
        return Problem("D15", "the label is missing", fix=FIX_MISSING)


class SplitRows:
    """The rows of one split of a task; iterating checks every row and fills `counts`.

    The constructor raises UserError for problems with the file or its header. The end of an iteration raises one
    UserError for all invalid rows (with `on_invalid_row: error`; no row is yielded after the first of them), D11 if no
    valid row is left, and D23 if all dev labels are the same.
    """

    def __init__(self, path: Path, name: str, data: TaskData, split: Split) -> None:
        self.path, self.name, self.data, self.split = path, name, data, split
        try:
            self.table = open_table(path, data.quoting)
            self.has_labels = split != "test" or data.label in self.table.columns
            ids = [] if data.id is None else [data.id]
            self.columns = [*([data.label] if self.has_labels else []), *data.text, *ids]
            self.indices = self.table.column_indices(self.columns)
        except UserError as error:
            raise UserError(map(self._named, error.problems)) from None
        self.labels = LabelParser(data)
        self.counts = RowCounts()
        self._texts = slice(int(self.has_labels), int(self.has_labels) + len(data.text))
        self._duplicates: dict[int, int] = {}

    def __iter__(self) -> Iterator[Row]:
        counts = self.counts = RowCounts()
        self._duplicates = self._find_duplicate_ids()
        problems: list[Problem] = []
        total, strict = 0, self.data.on_invalid_row == "error"
        labels: set[float | None] = set()  # at most two different ones
        for line, cells in self.table.rows(self.columns, self._looks_like_rows):
            number = counts.rows_read
            counts.rows_read += 1
            row = self._check(line, number, cells)
            if isinstance(row, Row):
                counts.rows_used += 1
                if len(labels) < 2:
                    labels.add(row.label)
                if not total:
                    yield row
                continue
            counts.reject(line, row[0].code, row[0].what.removeprefix(f"task '{self.name}', "))
            if strict:
                total += len(row)
                problems += row[: max(0, SHOWN_PER_FILE - len(problems))]
                if total >= MAX_PROBLEMS:
                    break
        counts.blank_lines = self.table.blank_lines
        if problems:
            raise UserError(problems, total)
        if not counts.rows_used:
            what = f"task '{self.name}': 0 usable rows ({counts.rows_read} rows below the header)"
            if not counts.rows_read:
                fail("D11", what, where=str(self.path), fix="add rows")
            reasons = ", ".join(f"{number} x {code}" for code, number in counts.rejected.most_common())
            line, code, reason = counts.listed[0]
            first = f"all are rejected: {reasons}; line {line}: {code} {reason}"
            fail("D11", f"{what}; {first}", where=str(self.path), fix="correct the rows, or the task's block")
        if self.split == "dev" and len(labels) == 1:
            self._fail_constant(labels.pop())

    def _fail_constant(self, label: float | None) -> NoReturn:
        value = self.data.labels[int(label or 0)] if self.data.labels else f"{label:g}"
        what = f"task '{self.name}', column '{self.data.label}': every dev label is {value}, so no score is meaningful"
        fail("D23", what, where=str(self.path), fix="add rows with other labels to the dev file")

    def _check(self, line: int, number: int, cells: Cells | Problem) -> Row | list[Problem]:
        """The row, or all problems with it."""
        if isinstance(cells, Problem):
            return [self._named(cells)]
        label = self.labels.parse(cells[0]) if self.has_labels else None
        texts = cells[self._texts]
        row_id = cells[-1] if self.data.id is not None else str(number)
        problems = [(0, label)] if isinstance(label, Problem) else []
        for i, text in enumerate(texts):
            # These tests are fast, and false for most texts; only the others get the full check.
            if not text.isprintable() or not LONGEST_MISSING < len(text) <= FIELD_LIMIT or text.isspace():
                problems += [(self._texts.start + i, problem) for problem in self._check_text(line, text)]
        if line in self._duplicates or not row_id or "\n" in row_id or "\r" in row_id:
            problems.append((len(cells) - 1, self._id_problem(line, row_id)))
        if problems:
            return [self._at(line, column, problem) for column, problem in problems]
        if self.has_labels and self.labels.labels and cells[0] not in self.labels.index:
            self.counts.labels_respelled += 1
        return Row(line, number, row_id, texts, label)  # type: ignore[arg-type]  # a Problem is in `problems`

    def _named(self, problem: Problem) -> Problem:
        return replace(problem, what=f"task '{self.name}': {problem.what}")

    def _at(self, line: int, column: int, problem: Problem) -> Problem:
        """The problem with its location: file, line, field number, task and column name."""
        where, name = f"{self.path}:{line}:{self.indices[column] + 1}", self.columns[column]
        return replace(problem, where=where, what=f"task '{self.name}', column '{name}': {problem.what}")

    def _check_text(self, line: int, text: str) -> list[Problem]:
        """The problems of a text that may be empty, too long, or contain hidden characters; counts these."""
        hidden = HIDDEN.findall(text)
        if len(text) > FIELD_LIMIT:
            return [Problem("D19", f"a text of {len(text)} characters; the limit is {FIELD_LIMIT}", fix="shorten it")]
        if is_empty(text):
            return [Problem("D20", "the text is empty", fix=FIX_MISSING)]
        self.counts.hidden_characters += len(hidden)
        self.counts.rows_with_hidden_characters += bool(hidden)
        if "\n" in text.strip():
            self.counts.line_breaks.add(line)
        if text.strip().lower() in MISSING:
            self.counts.missing_texts.add(line)
        return []

    def _id_problem(self, line: int, row_id: str) -> Problem:
        what = f"invalid id {quoted(row_id)}: empty, or contains a line break"
        if line in self._duplicates:
            what = f"duplicate id {quoted(row_id)}, first used on line {self._duplicates[line]}"
        return Problem("D09", what, fix="give each row a unique id")

    @property
    def _looks_like_rows(self) -> LooksLikeRows | None:
        """The check for rows that a stray quote has merged; None where neither labels nor ids can tell."""
        return self._look_like_rows if self.has_labels or self.data.id is not None else None

    def _look_like_rows(self, rows: list[Cells]) -> bool:
        """Whether all of these could be rows of this table: valid labels, no empty text, ids of one shape."""
        rows = [[cells[index] for index in self.indices] for cells in rows]
        if self.has_labels and any(isinstance(self.labels.parse(cells[0]), Problem) for cells in rows):
            return False
        if not all(text.strip() for cells in rows for text in cells[self._texts]):
            return False
        return self.data.id is None or len({id_shape(cells[-1]) for cells in rows}) == 1

    def _find_duplicate_ids(self) -> dict[int, int]:
        """Maps the line of each duplicate id to the line of its first use, by a separate pass over the ids.

        It stores 64-bit hashes and lines, 16 bytes per row: five million ids have a collision with probability 1e-6.
        """
        if self.data.id is None:
            return {}
        hashes, lines = array("q"), array("q")
        for line, cells in self.table.rows([self.data.id], self._looks_like_rows):
            if not isinstance(cells, Problem) and cells[0]:
                hashes.append(hash(cells[0]))
                lines.append(line)
        hashes_R, lines_R = np.frombuffer(hashes, dtype=np.int64), np.frombuffer(lines, dtype=np.int64)
        order = np.argsort(hashes_R, kind="stable")
        same = np.flatnonzero(hashes_R[order][1:] == hashes_R[order][:-1]) + 1
        duplicates: dict[int, int] = {}
        for at in same:
            line, before = int(lines_R[order[at]]), int(lines_R[order[at - 1]])
            duplicates[line] = duplicates.get(before, before)
        return duplicates


def id_shape(row_id: str) -> tuple[bool, int]:
    """Whether an id is all digits, and else its length; the ids of one table are usually alike in this."""
    digits = row_id.isdigit()
    return digits, 0 if digits else len(row_id)


def row_chunks(
    rows: Iterable[WithTexts], max_rows: int = CHUNK_ROWS, max_characters: int = CHUNK_CHARACTERS
) -> Iterator[list[WithTexts]]:
    """The rows in order, in chunks limited both in rows and in characters."""
    return chunked(rows, max_rows, max_characters, lambda row: sum(map(len, row.texts)))


def check_file(path: Path, name: str, data: TaskData, split: Split) -> list[Problem]:
    """Checks every row of a file as `tokenize` does, and returns the problems.

    There are at most `SHOWN_PER_FILE` problems of rows, then one with the total number.
    """
    try:
        for _ in SplitRows(path, name, data, split):
            pass
    except UserError as error:
        problems = list(error.problems)
        if error.total > len(problems):
            least = "at least " if error.total >= MAX_PROBLEMS else ""
            what = f"{least}{error.total} problems in {path}; the first {len(problems)} are listed"
            problems.append(Problem(problems[-1].code, what))
        return problems
    return []
