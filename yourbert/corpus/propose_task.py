"""Proposes a task's block of params.yaml from its files: the text columns, the label column and the labels.

Every guess is reported with its reason, and the caller can name the columns instead. All rows of the files are then
checked against the proposed block, as the pipeline does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from yourbert.config.params import PARAMS_FILE, add_entries, read_params
from yourbert.config.schema import TaskData
from yourbert.core.errors import Problem, UserError, fail, nearest, quoted
from yourbert.core.tasks import Split
from yourbert.corpus.delimited import Cells
from yourbert.corpus.formats import open_table
from yourbert.corpus.rows import DECIMAL, check_file

MAX_ROWS = 5_000  # rows of a file that are read for the guess
LABEL_NAMES = ("label", "labels", "class", "category", "target", "score", "sentiment", "similarity", "rating", "gold")
MAX_CLASSES = 30  # distinct values of a classification's label; more numbers than that are a similarity
MIN_TEXT_WORDS = 2  # mean number of words per cell of a text column
TOKENS_PER_WORD = 1.4
MAX_LENGTHS = (64, 128, 256, 512)  # the proposed values of `max_length`


@dataclass(frozen=True)
class Column:
    name: str
    cells: Sequence[str]

    @property
    def distinct(self) -> int:
        return len(set(self.cells))

    @property
    def words(self) -> float:
        return sum(len(cell.split()) for cell in self.cells) / len(self.cells)

    @property
    def numbers(self) -> bool:
        return all(DECIMAL.fullmatch(cell.strip()) for cell in self.cells if cell.strip())

    @property
    def is_text(self) -> bool:
        return self.words >= MIN_TEXT_WORDS and not self.numbers and self.distinct > len(self.cells) / 2


def propose_task(
    name: str,
    files: Mapping[Split, Path],
    text: Sequence[str],
    label: str | None,
    row_id: str | None,
    path: Path = PARAMS_FILE,
) -> tuple[dict[str, Any], list[str]]:
    """Adds a task to params.yaml; returns its block, and a line about each guess with the reason.

    files: the files of train, dev and, if there is one, test. text, label, row_id: names of columns; empty or None to
    guess them. Raises UserError: P05 (the task exists, or the block has contradictions), D codes (a column is missing
    or cannot be guessed, or a row does not fit the block). params.yaml is then unchanged.
    """
    if name in read_params(path).tasks:
        fail("P05", f"the task '{name}' already exists", where=str(path), fix="choose another name, or edit its block")
    columns = _columns(files["train"])
    block, reasons = _block(columns, files, list(text), label, row_id)
    data = TaskData.model_validate(block)
    problems = [f"tasks.{name}.data: {what}" for what in data.problems()]
    if problems:
        raise UserError(
            Problem("P05", what, where=str(files["train"]), fix="name the columns with --text and --label")
            for what in problems
        )
    invalid = [problem for split, file in files.items() for problem in check_file(file, name, data, split)]
    if invalid:
        raise UserError(invalid)
    add_entries(path, "tasks", {name: {"lr": None, "batch_size": None, "epochs": None, "data": block}})
    return block, reasons


def _columns(path: Path) -> list[Column]:
    table = open_table(path)
    names = [name for name in table.columns if name.strip()]
    rows: list[Cells] = [cells for _, cells in islice(table.rows(names), MAX_ROWS) if not isinstance(cells, Problem)]
    if not rows:
        fail("D11", "0 usable rows", where=str(path), fix="add rows")
    return [Column(name, cells) for name, cells in zip(names, zip(*rows, strict=True), strict=True)]


def _block(
    columns: Sequence[Column], files: Mapping[Split, Path], text: list[str], label: str | None, row_id: str | None
) -> tuple[dict[str, Any], list[str]]:
    known = {column.name: column for column in columns}
    for name in [*text, *filter(None, [label, row_id])]:
        if name not in known:
            what = f"no column {quoted(name)} (columns: {', '.join(map(quoted, known))}){nearest(name, known)}"
            fail("D12", what, where=f"{files['train']}:1", fix="correct the name")
    label_column = known[label] if label else _label(columns, text, files["train"])
    texts = [known[name] for name in text] or [c for c in columns if c.is_text and c is not label_column][:2]
    if not texts:
        fail("D12", "no column looks like a text", where=f"{files['train']}:1", fix="name it with --text")
    ids = known[row_id] if row_id else _id(columns, [*texts, label_column])
    label_cells = [cell for file in files.values() for cell in _cells(file, label_column)]
    kind, keys, why = _kind(Column(label_column.name, label_cells), pair=len(texts) == 2)
    reasons = [
        f"text: {', '.join(column.name for column in texts)} ({texts[0].words:.0f} words on average)",
        f"label: {label_column.name} ({label_column.distinct} values, so {why})",
        f"id: {ids.name} (all values differ)" if ids else "id: none; rows are numbered",
    ]
    names: dict[str, Any] = {split: file.name for split, file in files.items()}
    return {
        "kind": kind, **names, "text": [column.name for column in texts], "label": label_column.name,
        **({"id": ids.name} if ids else {}), **keys, "max_length": _max_length(texts, keys),
    }, reasons  # fmt: skip


def _cells(path: Path, column: Column) -> Sequence[str]:
    """The cells of a column in another file; none if that file lacks it, as a test file may."""
    return next((c.cells for c in _columns(path) if c.name == column.name), ())


def _label(columns: Sequence[Column], text: Sequence[str], path: Path) -> Column:
    """The first column with a typical name of a label; else the one with the fewest distinct, repeated values."""
    candidates = [column for column in columns if column.name not in text and column.distinct > 1]
    named = [column for column in candidates if column.name.lower() in LABEL_NAMES]
    repeated = [c for c in candidates if c.distinct <= len(c.cells) / 2 and not c.is_text]
    if not named and not repeated:
        fail("D12", "no column looks like a label", where=f"{path}:1", fix="name it with --label")
    return (named or sorted(repeated, key=lambda c: c.distinct))[0]


def _id(columns: Sequence[Column], used: Sequence[Column]) -> Column | None:
    """A column without empty or duplicate values, preferably one with "id" in its name."""
    unique = [c for c in columns if c not in used and c.distinct == len(c.cells) and all(map(str.strip, c.cells))]
    return next((c for c in unique if "id" in c.name.lower()), next(iter(unique), None))


def _kind(column: Column, pair: bool) -> tuple[str, dict[str, Any], str]:
    """The kind of task by its labels, the keys that belong to it, and the reason."""
    values = sorted({cell.strip() for cell in column.cells if cell.strip()})
    integers = column.numbers and all(float(value) == int(float(value)) for value in values)
    if column.numbers and pair and (not integers or len(values) > MAX_CLASSES):
        numbers = [float(value) for value in values]
        low, high = min(0.0, *numbers), max(numbers)
        ends = [int(end) if end == int(end) else end for end in (low, high)]
        return "similarity", {"range": ends, "encoding": "bi"}, f"a similarity from {ends[0]} to {ends[1]}"
    if len(values) > MAX_CLASSES:
        what = f"column {quoted(column.name)} has {len(values)} values, too many for classes"
        fail("P05", what, where="--label", fix="name the column of the label")
    ordered = sorted(values, key=float) if column.numbers else values
    return "classification", {"labels": [_as_int(value) for value in ordered]}, "a classification"


def _as_int(value: str) -> str | int:
    """The value as YAML writes it best: an integer if that has the same spelling."""
    return int(value) if value.isascii() and value.isdigit() and str(int(value)) == value else value


def _max_length(texts: Sequence[Column], keys: Mapping[str, Any]) -> int:
    """The smallest proposed length that truncates about 1% of the rows at most, by their number of words."""
    words = [[len(cell.split()) for cell in column.cells] for column in texts]
    rows = sorted(map(max if keys.get("encoding") == "bi" else sum, zip(*words, strict=True)))
    tokens = TOKENS_PER_WORD * rows[int(0.99 * (len(rows) - 1))] + 3
    return next((length for length in MAX_LENGTHS if tokens <= length), MAX_LENGTHS[-1])
