"""Labelled files -> checked rows, every rejected row accounted for.

A row is used whole or rejected whole: its label first, then its texts, then its id. With `on_invalid_row: error` all
problems of a file are one error at its end; with `drop` the rows go, and the tally says how many, why and where.
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
from yourbert.core.text import HIDDEN, chunked, is_empty
from yourbert.corpus.delimited import Cells
from yourbert.corpus.formats import open_table
from yourbert.corpus.sources import FIELD_LIMIT

LISTED = 100  # rejected rows that the tally names
DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
FIX_MISSING = "add it, delete the row, or set the task's on_invalid_row: drop"
MISSING = frozenset(["", "nan", "na", "n/a", "null", "none"])


class HasTexts(Protocol):
    @property
    def texts(self) -> Sequence[str]: ...


WithTexts = TypeVar("WithTexts", bound=HasTexts)


class Row(NamedTuple):
    """A row fit for use. number: its place in the file from 0; label: class index, similarity, or None."""

    line: int
    number: int
    id: str
    texts: Sequence[str]
    label: float | None


@dataclass
class RowCounts:
    """What became of a file's rows: read = used + rejected. listed: the first rejected ones: line, code, reason."""

    rows_read: int = 0
    rows_used: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    listed: list[tuple[int, str, str]] = field(default_factory=list)
    blank_lines: int = 0
    labels_respelled: int = 0
    hidden_characters: int = 0
    rows_with_hidden_characters: int = 0

    def reject(self, line: int, code: str, reason: str) -> None:
        self.rejected[code] += 1
        if len(self.listed) < LISTED:
            self.listed.append((line, code, reason))

    def to_json(self) -> dict[str, Any]:
        assert self.rows_read == self.rows_used + self.rejected.total(), "a row is used or rejected"
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
    """A task's labels: text -> class index or similarity, or the problem with it."""

    def __init__(self, data: TaskData) -> None:
        self.column, self.labels = data.label, list(data.labels or [])
        self.index = {text: i for i, text in enumerate(self.labels)}
        numbers = {Decimal(text): i for text, i in self.index.items() if DECIMAL.fullmatch(text)}
        self.numbers = numbers if len(numbers) == len(self.labels) else {}
        self.low, self.high = data.range or (0.0, 1.0)
        self.parse = self._class if self.labels else self._similarity

    def _class(self, text: str) -> float | Problem:
        place = self.index.get(text)
        return place if place is not None else self._respelled(text.strip())

    def _respelled(self, text: str) -> float | Problem:
        """A label in another spelling ("0" for "0.0", blanks around it), or what is wrong with it."""
        if text in self.index:
            return self.index[text]
        if text.lower() in MISSING:
            return self._missing()
        number = Decimal(text) if DECIMAL.fullmatch(text) else None
        if number is not None and number in self.numbers:
            return self.numbers[number]
        code = "D14" if number is None or not self.numbers else "D16" if number == number.to_integral_value() else "D17"
        hint = nearest(text, self.labels) if number is None else ""
        what = f"label {quoted(text)} is not one of {', '.join(self.labels)}{hint}"
        return Problem(code, what, fix="correct the row, or `labels` of the task in params.yaml")

    def _similarity(self, text: str) -> float | Problem:
        if DECIMAL.fullmatch(text) and self.low <= (value := float(text)) <= self.high:
            return value
        if not text.strip():
            return self._missing()
        what = f"{quoted(text)} is not a decimal number from {self.low:g} to {self.high:g}"
        return Problem("D18", what, fix="correct the row, or `range` of the task in params.yaml")

    def _missing(self) -> Problem:
        return Problem("D15", "the label is missing", fix=FIX_MISSING)


class SplitRows:
    """The rows of one split of a task; going through them checks every row and fills `tally`.

    Opening raises UserError for what is wrong with the file or its header; the end of a pass raises one for all
    invalid rows together (`on_invalid_row: error`; after the first of them no row is yielded), D11 when none is left,
    and D23 when all dev labels are the same.
    """

    def __init__(self, path: Path, name: str, data: TaskData, split: Split) -> None:
        self.path, self.name, self.data, self.split = path, name, data, split
        try:
            self.table = open_table(path)
            self.has_labels = split != "test" or data.label in self.table.columns
            ids = [] if data.id is None else [data.id]
            self.columns = [*([data.label] if self.has_labels else []), *data.text, *ids]
            self.indices = self.table.column_indices(self.columns)
        except UserError as error:
            raise UserError(map(self._named, error.problems)) from None
        self.labels = LabelParser(data)
        self.counts = RowCounts()
        self._texts = slice(int(self.has_labels), int(self.has_labels) + len(data.text))
        self._repeated: dict[int, int] = {}

    def __iter__(self) -> Iterator[Row]:
        tally = self.counts = RowCounts()
        self._repeated = self._find_repeated_ids()
        problems: list[Problem] = []
        total, strict = 0, self.data.on_invalid_row == "error"
        labels: set[float | None] = set()  # the first two that differ
        for line, cells in self.table.rows(self.columns, self._like_rows):
            number = tally.rows_read
            tally.rows_read += 1
            row = self._check(line, number, cells)
            if isinstance(row, Row):
                tally.rows_used += 1
                if len(labels) < 2:
                    labels.add(row.label)
                if not total:
                    yield row
                continue
            tally.reject(line, row[0].code, row[0].what.removeprefix(f"task '{self.name}', "))
            if strict:
                total += len(row)
                problems += row[: max(0, SHOWN_PER_FILE - len(problems))]
        tally.blank_lines = self.table.blank_lines
        if problems:
            raise UserError(problems, total)
        if not tally.rows_used:
            what = f"task '{self.name}': 0 usable rows ({tally.rows_read} rows below the header)"
            fail("D11", what, where=str(self.path), fix="add rows")
        if self.split == "dev" and len(labels) == 1:
            self._fail_constant(labels.pop())

    def _fail_constant(self, label: float | None) -> NoReturn:
        value = self.data.labels[int(label or 0)] if self.data.labels else f"{label:g}"
        what = f"task '{self.name}', column '{self.data.label}': every dev label is {value}: no score can judge a model"
        fail("D23", what, where=str(self.path), fix="put rows with other labels into the dev file")

    def _check(self, line: int, number: int, cells: Cells | Problem) -> Row | list[Problem]:
        """The row, or all that is wrong with it."""
        if isinstance(cells, Problem):
            return [self._named(cells)]
        label = self.labels.parse(cells[0]) if self.has_labels else None
        texts = cells[self._texts]
        row_id = cells[-1] if self.data.id is not None else str(number)
        found = [(0, label)] if isinstance(label, Problem) else []
        for i, text in enumerate(texts):
            if not text.isprintable() or not text or text.isspace() or len(text) > FIELD_LIMIT:
                found += [(self._texts.start + i, problem) for problem in self._odd_text(text)]
        if line in self._repeated or not row_id or "\n" in row_id or "\r" in row_id:
            found.append((len(cells) - 1, self._bad_id(line, row_id)))
        if found:
            return [self._at(line, place, problem) for place, problem in found]
        if self.has_labels and self.labels.labels and cells[0] not in self.labels.index:
            self.counts.labels_respelled += 1
        return Row(line, number, row_id, texts, label)  # type: ignore[arg-type]  # a Problem is in `found`

    def _named(self, problem: Problem) -> Problem:
        return replace(problem, what=f"task '{self.name}': {problem.what}")

    def _at(self, line: int, place: int, problem: Problem) -> Problem:
        """The problem with its place: field number in the file, task and column."""
        where = f"{self.path}:{line}:{self.indices[place] + 1}"
        return replace(problem, where=where, what=f"task '{self.name}', column '{self.columns[place]}': {problem.what}")

    def _odd_text(self, text: str) -> list[Problem]:
        """Looks closer at a text that is empty, long or has characters no screen shows; counts the last."""
        hidden = HIDDEN.findall(text)
        if len(text) > FIELD_LIMIT:
            return [Problem("D19", f"a text of {len(text)} characters; the limit is {FIELD_LIMIT}", fix="shorten it")]
        if is_empty(text):
            return [Problem("D20", "the text is empty", fix=FIX_MISSING)]
        self.counts.hidden_characters += len(hidden)
        self.counts.rows_with_hidden_characters += bool(hidden)
        return []

    def _bad_id(self, line: int, row_id: str) -> Problem:
        what = f"{quoted(row_id)} names no row: it is empty or has a line break"
        if line in self._repeated:
            what = f"id {quoted(row_id)} stands in line {self._repeated[line]} too"
        return Problem("D09", what, fix="give each row an id of its own")

    def _like_rows(self, rows: list[Cells]) -> bool:
        """Whether each of these cell lists could be a row of this table: label fit, texts there, ids of one shape."""
        wanted = [[cells[place] for place in self.indices] for cells in rows]
        if self.has_labels and any(isinstance(self.labels.parse(cells[0]), Problem) for cells in wanted):
            return False
        if not all(text.strip() for cells in wanted for text in cells[self._texts]):
            return False
        return self.data.id is None or len({id_shape(cells[-1]) for cells in wanted}) == 1

    def _find_repeated_ids(self) -> dict[int, int]:
        """Line of a repeated id -> line where that id stands first, from a pass over the ids alone.

        Kept as 64-bit hashes, 16 bytes a row: two of five million ids are taken for one with a chance of 1e-6.
        """
        if self.data.id is None:
            return {}
        hashes, lines = array("q"), array("q")
        for line, cells in self.table.rows([self.data.id], self._like_rows):
            if not isinstance(cells, Problem) and cells[0]:
                hashes.append(hash(cells[0]))
                lines.append(line)
        hashes_R, lines_R = np.frombuffer(hashes, dtype=np.int64), np.frombuffer(lines, dtype=np.int64)
        order = np.argsort(hashes_R, kind="stable")
        same = np.flatnonzero(hashes_R[order][1:] == hashes_R[order][:-1]) + 1
        repeated: dict[int, int] = {}
        for at in same:
            line, before = int(lines_R[order[at]]), int(lines_R[order[at - 1]])
            repeated[line] = repeated.get(before, before)
        return repeated


def id_shape(row_id: str) -> tuple[bool, int]:
    """Ids of one table are alike: all digits, or all of one length."""
    digits = row_id.isdigit()
    return digits, 0 if digits else len(row_id)


def row_chunks(rows: Iterable[WithTexts], most_rows: int, most_characters: int) -> Iterator[list[WithTexts]]:
    """The rows in order, few enough at once however long their texts are."""
    return chunked(rows, most_rows, most_characters, lambda row: sum(map(len, row.texts)))


def check_file(path: Path, name: str, data: TaskData, split: Split) -> list[Problem]:
    """Reads and checks every row of a file, as `tokenize` will, and keeps none: what is wrong, or nothing.

    At most `SHOWN_PER_FILE` problems of rows, then one that tells how many there are.
    """
    try:
        for _ in SplitRows(path, name, data, split):
            pass
    except UserError as error:
        found = list(error.problems)
        if error.total > len(found):
            found.append(
                Problem(found[-1].code, f"{error.total} problems in {path}; the first {len(found)} are listed")
            )
        return found
    return []
