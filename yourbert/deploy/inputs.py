"""What a model is asked about: a table, or plain text with one text a line -> rows of texts with ids, checked.

There will be as many answers as rows, so nothing is left out: a row that cannot be read, has the wrong number of
fields or no text is named, and all such rows of a file together are one error at its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

from yourbert.core.errors import SHOWN_PER_FILE, Problem, UserError, fail, quoted
from yourbert.core.tasks import Task
from yourbert.core.text import is_empty
from yourbert.corpus.delimited import Cells
from yourbert.corpus.formats import open_table
from yourbert.corpus.rows import shape
from yourbert.corpus.sources import Lines, opened

STDIN = "-"
Record = tuple[int, str | None, Cells | Problem]  # line, id if it has one, texts or what is wrong


class InputRow(NamedTuple):
    """One row to answer. id: from the table, else the row's number from 0."""

    line: int
    id: str
    texts: Sequence[str]


class InputRows:
    """The rows of one input, checked as they pass; after a bad row none is yielded, and the end raises UserError.

    Codes: I01 a text is empty, I04 wrong number of fields, D.. what is wrong with the file itself.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def records(self) -> Iterator[Record]:
        raise NotImplementedError

    def place(self, text: int) -> int:
        """The field that a row's text stands in, from 1."""
        return text + 1

    def __iter__(self) -> Iterator[InputRow]:
        problems: list[Problem] = []
        total = 0
        for number, (line, row_id, texts) in enumerate(self.records()):
            found = self._problems(line, texts)
            total += len(found)
            problems += found[: max(0, SHOWN_PER_FILE - len(problems))]
            if not total:
                assert not isinstance(texts, Problem), "a Problem is in `found`"
                yield InputRow(line, str(number) if row_id is None else row_id, texts)
        if problems:
            raise UserError(problems, total)

    def _problems(self, line: int, texts: Cells | Problem) -> list[Problem]:
        if isinstance(texts, Problem):
            return [replace(texts, code="I04") if texts.code == "D01" else texts]
        return [
            Problem("I01", "the text is empty", f"{self.name}:{line}:{self.place(i)}", "write it, or delete the row")
            for i, text in enumerate(texts)
            if (not text.isprintable() or not text or text.isspace()) and is_empty(text)
        ]


class LineRows(InputRows):
    """Plain text: a line is a text; of a pair task, two texts with a tab between them. Reads a file, or an open one."""

    def __init__(self, task: Task, source: Path | BinaryIO) -> None:
        super().__init__(str(source) if isinstance(source, Path) else "stdin")
        self.source, self.pair = source, task.pair

    def records(self) -> Iterator[Record]:
        with opened(self.source) if isinstance(self.source, Path) else nullcontext(self.source) as file:
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
        what = f"{len(texts)} field{'s' * (len(texts) != 1)}; this task reads two texts with a tab between them"
        return Problem("I04", what, f"{self.name}:{number}", "write the line as `first text<TAB>second text`")


class TableRows(InputRows):
    """A table: the texts stand in the columns named `columns`, by default those that the task was trained on.

    id_column: where a row's id stands; by default the task's, if the table has it. Raises UserError (D.., I04).
    """

    def __init__(self, task: Task, path: Path, columns: Sequence[str], id_column: str | None) -> None:
        super().__init__(str(path))
        self.table = open_table(path)
        self.columns = [*(columns or task.columns)]
        reads = "two texts" if task.pair else "one text"
        if len(self.columns) != 1 + task.pair:
            what = "the model does not say which columns its texts stand in"
            if self.columns:
                what = f"{len(self.columns)} columns are named, and task '{task.name}' reads {reads}"
            has = ", ".join(map(quoted, self.table.columns))
            fail("I04", f"{what} (columns: {has})", where=str(path), fix=f"name them with --columns ({reads})")
        known = task.id_column if task.id_column in self.table.columns else None
        self.id_column = id_column or known
        self.wanted = [*self.columns, *filter(None, [self.id_column])]
        try:
            self.places = self.table.places(self.wanted)
        except UserError as error:
            fix = "correct the header, or name the columns with --columns and --id"
            raise UserError(replace(problem, fix=fix) for problem in error.problems) from None

    def place(self, text: int) -> int:
        return self.places[text] + 1

    def records(self) -> Iterator[Record]:
        for line, cells in self.table.rows(self.wanted, self._like_rows if self.id_column else None):
            if isinstance(cells, Problem) or self.id_column is None:
                yield line, None, cells
            else:
                yield line, cells[-1], cells[:-1]

    def _like_rows(self, rows: list[Cells]) -> bool:
        """Whether each of these cell lists could be a row of this table: texts there, ids of one shape."""
        wanted = [[cells[place] for place in self.places] for cells in rows]
        texts = all(text.strip() for cells in wanted for text in cells[:-1])
        return texts and len({shape(cells[-1]) for cells in wanted}) == 1


def open_input(source: str, task: Task, columns: Sequence[str], id_column: str | None, stdin: BinaryIO) -> InputRows:
    """The rows of a file, or of `stdin` for "-": .txt (or .txt.gz) and stdin are lines, other files tables."""
    path = Path(source)
    lines = source == STDIN or path.name.removesuffix(".gz").endswith(".txt")
    if not lines:
        return TableRows(task, path, columns, id_column)
    if columns or id_column:
        fail("I04", "plain text has no columns", where=source, fix="leave out --columns and --id, or give a table")
    return LineRows(task, stdin if source == STDIN else path)
