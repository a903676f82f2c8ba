"""A labelled file as rows of named columns, whatever it is written in: csv, tsv, jsonl, parquet; plain or gzip.

Files are streamed: memory does not grow with them. A row is the line it starts on and either the wanted cells, all
text, or the problem that makes it unusable; who reads decides whether that stops the work.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from yourbert.core.errors import Problem, UserError, fail, nearest, quoted
from yourbert.corpus.delimited import Cells, Delimited, LooksLikeRows, find_delimiter
from yourbert.corpus.sources import Lines, check_regular_file, check_unchanged, open_data_file

Record = tuple[int, Cells | Problem]
BATCH = 4096  # rows of a parquet file in memory at once


class Table:
    """One file. columns: its header, in order; `blank_lines` counts what the last pass skipped."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self.columns = path, list(columns)
        self.blank_lines = 0
        repeated = [name for name, count in Counter(self.columns).items() if count > 1 and name.strip()]
        if repeated:
            name = repeated[0]
            at = ", ".join(str(i) for i, column in enumerate(self.columns, start=1) if column == name)
            fail(
                "D13",
                f"column {quoted(name)} stands there twice (positions {at})",
                where=f"{path}:1",
                fix="rename one of them",
            )

    def column_indices(self, names: Sequence[str]) -> list[int]:
        """Where each named column stands. Raises UserError (D12) that names all that are missing."""
        found = ", ".join(quoted(c) for c in self.columns[:40])
        problems = [
            Problem(
                "D12",
                f"no column {quoted(name)} (columns: {found}){nearest(name, self.columns)}",
                f"{self.path}:1",
                "correct the header, or the column's name in params.yaml",
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


def open_table(path: Path) -> Table:
    """Reads the header of a file. Raises UserError (D08, D10, D13, D28, D29, D30)."""
    check_regular_file(path)
    suffix = Path(path.name.removesuffix(".gz")).suffix
    if suffix in (".csv", ".tsv"):
        return DelimitedTable(path)
    if suffix == ".jsonl":
        return JsonTable(path)
    if path.suffix == ".parquet":
        return ParquetTable(path)
    fail("D30", f"the name ends in none of .csv .tsv .jsonl (or these with .gz) .parquet: {path.name}", where=str(path),
         fix="save the table as one of these")  # fmt: skip


class DelimitedTable(Table):
    """csv and tsv."""

    def __init__(self, path: Path) -> None:
        self.delimiter = find_delimiter(path)
        reader = Delimited(path, self.delimiter)
        next(iter(reader), None)
        super().__init__(path, reader.columns)

    def rows(self, names: Sequence[str], looks_like_rows: LooksLikeRows | None = None) -> Iterator[Record]:
        places = self.column_indices(names)
        reader = Delimited(self.path, self.delimiter, looks_like_rows)
        for line, cells in reader:
            yield line, cells if isinstance(cells, Problem) else [cells[place] for place in places]
        self.blank_lines = reader.blank_lines


class JsonTable(Table):
    """One JSON object a line; the keys of the first are the columns. Numbers keep the spelling they have."""

    def __init__(self, path: Path) -> None:
        first = next(_objects(path), None)
        if first is None:
            fail("D10", "the file is empty", where=f"{path}:1", fix="write one JSON object a line")
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
            return Problem("D01", f"no {quoted(missing[0])} in the object", f"{self.path}:{line}", "add it")
        return [_text(item[name]) for name in names]


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any] | Problem]]:
    """(line, object or what is wrong) of each line that is not blank."""
    decoder = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str)
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
        return Problem("D01", f"not JSON ({error.msg})", f"{where}:{error.colno}", "write one JSON object a line")
    except RecursionError:
        return Problem("D01", "JSON nested too deep", where, "write one flat JSON object a line")
    if not isinstance(item, dict):
        return Problem("D01", "not a JSON object", where, 'write each row as {"column": value, ..}')
    try:
        if "\\u" in line:  # the only way in for half a pair
            json.dumps(item, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return Problem(
            "D08",
            "half of a surrogate pair (\\ud800 to \\udfff alone) is not a character",
            where,
            "correct the text",
        )
    return item


def _text(value: object) -> str:
    """A cell's text: nothing for null and NaN, true and false as JSON spells them."""
    if isinstance(value, str):
        return value
    if value is None or value != value:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


class ParquetTable(Table):
    """Parquet, through the optional package `pyarrow`. Lines are row numbers from 1."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, self._file(path).schema_arrow.names)

    def rows(self, names: Sequence[str], looks_like_rows: LooksLikeRows | None = None) -> Iterator[Record]:
        self.column_indices(names)
        before = self.path.stat()
        line = 0
        for batch in self._file(self.path).iter_batches(batch_size=BATCH, columns=list(names)):
            columns = [batch.column(name).to_pylist() for name in names]
            for cells in zip(*columns, strict=True):
                line += 1
                yield line, [_text(cell) for cell in cells]
        check_unchanged(self.path, before)

    @staticmethod
    def _file(path: Path) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return pq.ParquetFile(path)
        except (pa.ArrowInvalid, OSError) as error:
            fail(
                "D30",
                f"not a readable parquet file ({quoted(str(error))})",
                where=str(path),
                fix="export it again",
            )
