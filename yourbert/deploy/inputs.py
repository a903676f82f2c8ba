"""Inputs of batch prediction: a table, or plain text with one text per line -> checked rows of texts with ids.

No row is skipped, because there is one prediction per row. Rows that cannot be read, have the wrong number of fields or
an empty text are collected, and reported as one error at the end of the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

from yourbert.core.errors import SHOWN_PER_FILE, Problem, UserError, fail, quoted, shortened
from yourbert.core.tasks import Quoting, Task
from yourbert.core.text import is_empty
from yourbert.corpus.delimited import Cells
from yourbert.corpus.formats import SHOWN_COLUMNS, open_table
from yourbert.corpus.rows import Noted, id_shape
from yourbert.corpus.sources import Lines, open_data_file

STDIN = "-"
FIX_QUOTE = "close it, double the quotes inside the field, or use --quoting none if quotes are plain characters"
Record = tuple[int, str | None, Cells | Problem]  # line, id or None, texts or a problem


class InputRow(NamedTuple):
    """One row to predict. line: in the file, from 1. id: from the table, else the row's number from 0."""

    line: int
    id: str
    texts: Sequence[str]


class InputRows:
    """Iterates over the checked rows of one input; after the first bad row it yields none, and raises at the end.

    line_breaks: the rows of the last iteration whose texts contain line breaks.
    Raises UserError: I01 for an empty text, I04 for a wrong number of fields, D.. for a damaged file.
    """

    def __init__(self, name: str) -> None:
        self.name, self.line_breaks = name, Noted()

    def records(self) -> Iterator[Record]:
        raise NotImplementedError

    def column_of(self, text: int) -> int:
        """The column of a row's text, from 1."""
        return text + 1

    def __iter__(self) -> Iterator[InputRow]:
        problems: list[Problem] = []
        total = 0
        self.line_breaks = Noted()
        for number, (line, row_id, texts) in enumerate(self.records()):
            of_row = self._problems(line, texts)
            total += len(of_row)
            problems += of_row[: max(0, SHOWN_PER_FILE - len(problems))]
            if not total:
                assert not isinstance(texts, Problem), "a Problem is in `of_row`"
                if any("\n" in text.strip() for text in texts):
                    self.line_breaks.add(line)
                yield InputRow(line, str(number) if row_id is None else row_id, texts)
        if problems:
            raise UserError(problems, total)

    def _problems(self, line: int, texts: Cells | Problem) -> list[Problem]:
        if isinstance(texts, Problem):
            changes = {"D01": {"code": "I04"}, "D03": {"fix": FIX_QUOTE}}
            return [replace(texts, **changes.get(texts.code, {}))]
        return [
            Problem(
                "I01", "the text is empty", f"{self.name}:{line}:{self.column_of(i)}", "add a text, or delete the row"
            )
            for i, text in enumerate(texts)
            if (not text.isprintable() or not text or text.isspace()) and is_empty(text)
        ]


class LineRows(InputRows):
    """Plain text: one text per line; for a pair task, two texts separated by a tab. source: a path or an open file."""

    def __init__(self, task: Task, source: Path | BinaryIO) -> None:
        super().__init__(str(source) if isinstance(source, Path) else "stdin")
        self.source, self.pair = source, task.pair

    def records(self) -> Iterator[Record]:
        with open_data_file(self.source) if isinstance(self.source, Path) else nullcontext(self.source) as file:
            lines = Lines(Path(self.name), file)
            for number, line in enumerate(lines, start=1):
                if number in lines.faults:
                    yield number, None, lines.faults.pop(number)
                else:
                    yield number, None, self._texts(number, line.removesuffix("\n").removesuffix("\r"))

    def _texts(self, number: int, text: str) -> Cells | Problem:
        texts = text.split("\t") if self.pair else [text]
        if len(texts) == 1 + self.pair:
            return texts
        what = f"{len(texts)} field{'s' * (len(texts) != 1)}; this task reads two texts separated by a tab"
        return Problem("I04", what, f"{self.name}:{number}", "write the line as `first text<TAB>second text`")


class TableRows(InputRows):
    """A table. columns: the text columns, by default those that the task was trained on.

    id_column: the column of row ids, by default the task's, if the table has it. quoting: by default the task's.
    Raises UserError (D.., I04).
    """

    def __init__(
        self, task: Task, path: Path, columns: Sequence[str], id_column: str | None, quoting: Quoting | None
    ) -> None:
        super().__init__(str(path))
        self.table = open_table(path, quoting or task.quoting)
        self.columns = [*(columns or task.columns)]
        reads = "two texts" if task.pair else "one text"
        if len(self.columns) != 1 + task.pair:
            what = "the model does not name its text columns"
            if self.columns:
                what = f"{len(self.columns)} columns are named, but task '{task.name}' reads {reads}"
            known = shortened([quoted(column) for column in self.table.columns], SHOWN_COLUMNS)
            fail("I04", f"{what} (columns: {known})", where=str(path), fix=f"name them with --columns ({reads})")
        self.id_column = id_column or (task.id_column if task.id_column in self.table.columns else None)
        self.wanted = [*self.columns, *filter(None, [self.id_column])]
        try:
            self.places = self.table.column_indices(self.wanted)
        except UserError as error:
            fix = "correct the header, or name the columns with --columns and --id"
            raise UserError(replace(problem, fix=fix) for problem in error.problems) from None

    def column_of(self, text: int) -> int:
        return self.places[text] + 1

    def records(self) -> Iterator[Record]:
        for line, cells in self.table.rows(self.wanted, self._like_rows if self.id_column else None):
            if isinstance(cells, Problem) or self.id_column is None:
                yield line, None, cells
            else:
                yield line, cells[-1], cells[:-1]

    def _like_rows(self, rows: list[Cells]) -> bool:
        """Whether each list of cells could be a row of this table: no empty text, and ids of one shape."""
        wanted = [[cells[place] for place in self.places] for cells in rows]
        texts = all(text.strip() for cells in wanted for text in cells[:-1])
        return texts and len({id_shape(cells[-1]) for cells in wanted}) == 1


def open_input(
    source: str,
    task: Task,
    columns: Sequence[str],
    id_column: str | None,
    stdin: BinaryIO,
    quoting: Quoting | None = None,
) -> InputRows:
    """Opens a file, or `stdin` for "-". Text (.txt, .txt.gz) and stdin are read by lines, other files as tables."""
    path = Path(source)
    lines = source == STDIN or path.name.removesuffix(".gz").endswith(".txt")
    if not lines:
        return TableRows(task, path, columns, id_column, quoting)
    if columns or id_column:
        fail("I04", "plain text has no columns", where=source, fix="remove --columns and --id, or give a table")
    return LineRows(task, stdin if source == STDIN else path)
