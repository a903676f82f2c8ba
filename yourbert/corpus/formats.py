"""Data files as rows of named columns: csv, tsv and jsonl, also gzip-compressed, and parquet.

Files are streamed, so memory does not grow with their size. A row is the number of its first line, and either the
cells of the requested columns, as text, or the problem with the row. The caller decides whether a problem is an error.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any

from yourbert.core.errors import Problem, UserError, fail, nearest, quoted, shortened
from yourbert.core.tasks import Quoting
from yourbert.corpus.delimited import Cells, Delimited, LooksLikeRows, find_dialect
from yourbert.corpus.sources import Lines, check_regular_file, check_unchanged, open_data_file

Record = tuple[int, Cells | Problem]
SHOWN_COLUMNS = 20  # in a message
BATCH = 4096  # rows of a parquet file in memory at once


class Table:
    """One file. `columns` is its header, in order; `blank_lines` is the number that the last pass skipped."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self.columns = path, list(columns)
        self.blank_lines = 0
        duplicates = [name for name, count in Counter(self.columns).items() if count > 1 and name.strip()]
        if duplicates:
            at = ", ".join(str(i) for i, column in enumerate(self.columns, start=1) if column == duplicates[0])
            what = f"duplicate column {quoted(duplicates[0])} (positions {at})"
            fail("D13", what, where=f"{path}:1", fix="rename one of them")

    def column_indices(self, names: Sequence[str]) -> list[int]:
        """The index of each named column. Raises one UserError (D12) for all that are missing."""
        columns = shortened([quoted(column) for column in self.columns], SHOWN_COLUMNS)
        fix = "correct the header, or the column's name in params.yaml"
        problems = [
            Problem(
                "D12",
                f"no column {quoted(name)}{nearest(name, self.columns)} (columns: {columns})",
                f"{self.path}:1",
                fix,
            )
            for name in names
            if name not in self.columns
        ]
        if problems:
            raise UserError(problems)
        return [self.columns.index(name) for name in names]

    def rows(self, names: Sequence[str], looks_like_rows: LooksLikeRows | None = None) -> Iterator[Record]:
        """For every row its line number, and the cells of the named columns or a Problem; see `Delimited`."""
        raise NotImplementedError


def open_table(path: Path, quoting: Quoting = "standard") -> Table:
    """Reads the header of a file. quoting: of csv and tsv. Raises UserError (D08, D10, D13, D28, D29, D30)."""
    check_regular_file(path)
    suffix = Path(path.name.removesuffix(".gz")).suffix
    if suffix in (".csv", ".tsv"):
        return DelimitedTable(path, quoting)
    if suffix == ".jsonl":
        return JsonTable(path)
    if path.suffix == ".parquet":
        return ParquetTable(path)
    what = f"unknown file format {path.name}: the name ends in none of .csv .tsv .jsonl (or these with .gz) .parquet"
    fail("D30", what, where=str(path), fix="save the table in one of these formats")


class DelimitedTable(Table):
    """A csv or tsv file."""

    def __init__(self, path: Path, quoting: Quoting) -> None:
        self.dialect = find_dialect(path, quoting)
        reader = Delimited(path, self.dialect)
        next(iter(reader), None)
        super().__init__(path, reader.columns)

    def rows(self, names: Sequence[str], looks_like_rows: LooksLikeRows | None = None) -> Iterator[Record]:
        indices = self.column_indices(names)
        reader = Delimited(self.path, self.dialect, looks_like_rows)
        for line, cells in reader:
            yield line, cells if isinstance(cells, Problem) else [cells[index] for index in indices]
        self.blank_lines = reader.blank_lines


class JsonTable(Table):
    """A jsonl file: one JSON object per line. The columns are the keys of the first; numbers keep their spelling."""

    def __init__(self, path: Path) -> None:
        first = next(_objects(path), None)
        if first is None:
            fail("D10", "the file is empty", where=f"{path}:1", fix="write one JSON object per line")
        if isinstance(first[1], Problem):
            raise UserError([first[1]])
        super().__init__(path, list(first[1]))

    def rows(self, names: Sequence[str], looks_like_rows: LooksLikeRows | None = None) -> Iterator[Record]:
        self.column_indices(names)
        for line, item in _objects(self.path):
            yield line, item if isinstance(item, Problem) else self._cells(line, item, names)

    def _cells(self, line: int, item: dict[str, Any], names: Sequence[str]) -> Cells | Problem:
        missing = [name for name in names if name not in item]
        if missing:
            return Problem("D01", f"the object has no key {quoted(missing[0])}", f"{self.path}:{line}", "add it")
        return _cells(names, [item[name] for name in names], f"{self.path}:{line}")


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any] | Problem]]:
    """For each line that is not blank, its number, and the object or the problem with it."""
    decoder = json.JSONDecoder(
        parse_float=str, parse_int=str, parse_constant=lambda word: None if word == "NaN" else word
    )
    with open_data_file(path) as file:
        lines = Lines(path, file)
        for number, line in enumerate(lines, start=1):
            if fault := lines.faults.pop(number, None):
                yield number, fault
            elif not line.isspace():
                yield number, _object(line, f"{path}:{number}", decoder)


def _object(line: str, where: str, decoder: json.JSONDecoder) -> dict[str, Any] | Problem:
    try:
        item = decoder.decode(line)
    except json.JSONDecodeError as error:
        if line.lstrip().startswith("["):
            what, fix = "a JSON array, not one object per line", "write one JSON object per line"
            return Problem("D01", what, where, fix)
        return Problem("D01", f"not JSON ({error.msg})", f"{where}:{error.colno}", "write one JSON object per line")
    except RecursionError:
        return Problem("D01", "JSON nested too deeply", where, "write one flat JSON object per line")
    if not isinstance(item, dict):
        return Problem("D01", "not a JSON object", where, 'write each row as {"column": value, ..}')
    try:
        if "\\u" in line:  # only an escape can contain a lone surrogate: the line itself is valid UTF-8
            json.dumps(item, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return Problem("D08", "a lone surrogate (\\ud800 to \\udfff) is not a character", where, "correct the text")
    return item


def _cell(value: object) -> str | Problem:
    """A value of JSON or parquet as text, or the problem with it; null and NaN are empty.

    Booleans are "true" and "false", dates and times as in ISO 8601, numbers as Python writes them, bytes decoded.
    """
    if isinstance(value, str):
        return value
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, date | time):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, int | float | Decimal):
        return str(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            value = error
    if isinstance(value, UnicodeDecodeError):
        return Problem("D08", "bytes that are not UTF-8", fix="store the texts as strings")
    if isinstance(value, Exception):
        return Problem("D35", f"a value that cannot be read ({value})", fix="correct it, or export it again")
    kind = {"list": "a list", "dict": "an object"}.get(type(value).__name__, f"a {type(value).__name__}")
    return Problem(
        "D35", f"{kind} is not a text: {quoted(str(value))}", fix="write one text, number or boolean per cell"
    )


def _cells(names: Sequence[str], values: Sequence[object], where: str) -> Cells | Problem:
    """The values of a row as text, or the first problem with one."""
    cells: Cells = []
    for name, value in zip(names, values, strict=True):
        cell = _cell(value)
        if isinstance(cell, Problem):
            return replace(cell, where=where, what=f"column {quoted(name)}: {cell.what}")
        cells.append(cell)
    return cells


class ParquetTable(Table):
    """A parquet file, read by the optional package `pyarrow`. The line of a row is its number, from 1."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, self._file(path).schema_arrow.names)

    def rows(self, names: Sequence[str], looks_like_rows: LooksLikeRows | None = None) -> Iterator[Record]:
        self.column_indices(names)
        before = self.path.stat()
        line = 0
        for columns in self._batches(list(names)):
            for cells in zip(*columns, strict=True):
                line += 1
                yield line, _cells(names, cells, f"{self.path}:{line}")
        check_unchanged(self.path, before)

    def _batches(self, names: list[str]) -> Iterator[list[list[object]]]:
        with _readable_parquet(self.path):
            for batch in self._file(self.path).iter_batches(batch_size=BATCH, columns=names):
                yield [_values(batch.column(name)) for name in names]

    @staticmethod
    def _file(path: Path) -> Any:
        import pyarrow.parquet as pq

        with _readable_parquet(path):
            return pq.ParquetFile(path)


@contextmanager
def _readable_parquet(path: Path) -> Iterator[None]:
    """Turns the errors of a damaged parquet file into a UserError (D30)."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        what = f"not a readable parquet file ({quoted(str(error))})"
        fail("D30", what, where=str(path), fix="export it again")


def _values(column: Any) -> list[object]:
    """The values of a column; one that Python cannot hold as the exception that says so."""
    try:
        values: list[object] = column.to_pylist()
    except (ValueError, OverflowError):
        return [_value(scalar) for scalar in column]
    return values


def _value(scalar: Any) -> object:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError) as error:  # not UTF-8, or a date out of range
        return error
