"""A task's block of params.yaml, proposed from its table: which columns are texts, which is the label, what it may be.

A guess is told with its reason; whoever knows better names the columns. The files are then checked row by row by what
was proposed, as the pipeline will.
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

LOOKED_AT = 5_000  # rows
LABEL_WORDS = ("label", "labels", "class", "category", "target", "score", "sentiment", "similarity", "rating", "gold")
CLASSES = 30  # values of a label that are classes; more numbers are a scale
TEXT_WORDS = 2  # of a cell in the mean, from which a column is one of texts
PIECES_A_WORD = 1.4
LENGTHS = (64, 128, 256, 512)


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
        return self.words >= TEXT_WORDS and not self.numbers and self.distinct > len(self.cells) / 2


def propose_task(
    name: str,
    files: Mapping[Split, Path],
    text: Sequence[str],
    label: str | None,
    row_id: str | None,
    path: Path = PARAMS_FILE,
) -> tuple[dict[str, Any], list[str]]:
    """Adds a task to params.yaml; its block, and what was guessed and why.

    files: of train, dev and, if there is one, test. text, label, row_id: columns, where the guess would be wrong.
    Raises UserError: P05 a task of that name is there, D.. for what is wrong with the files by this block.
    """
    if name in read_params(path).tasks:
        fail("P05", f"there is a task '{name}' already", where=str(path), fix="choose another name, or edit its block")
    columns = _columns(files["train"])
    block, reasons = _block(columns, files, list(text), label, row_id)
    data = TaskData.model_validate(block)
    problems = [f"tasks.{name}.data: {what}" for what in data.problems()]
    if problems:
        raise UserError(
            Problem("P05", what, where=str(files["train"]), fix="name the columns yourself") for what in problems
        )
    found = [problem for split, file in files.items() for problem in check_file(file, name, data, split)]
    if found:
        raise UserError(found)
    add_entries(path, "tasks", {name: {"lr": None, "batch_size": None, "epochs": None, "data": block}})
    return block, reasons


def _columns(path: Path) -> list[Column]:
    table = open_table(path)
    names = [name for name in table.columns if name.strip()]
    rows: list[Cells] = [cells for _, cells in islice(table.rows(names), LOOKED_AT) if not isinstance(cells, Problem)]
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
            fail("D12", what, where=f"{files['train']}:1", fix="correct the word")
    answer = known[label] if label else _label(columns, text, files["train"])
    texts = [known[name] for name in text] or [c for c in columns if c.is_text and c is not answer][:2]
    if not texts:
        fail("D12", "no column looks like a text", where=f"{files['train']}:1", fix="name it with --text")
    ids = known[row_id] if row_id else _id(columns, [*texts, answer])
    everywhere = [cell for file in files.values() for cell in _cells(file, answer)]
    kind, facts, why = _answers(Column(answer.name, everywhere), pair=len(texts) == 2)
    reasons = [
        f"text: {', '.join(column.name for column in texts)} ({texts[0].words:.0f} words in the mean)",
        f"label: {answer.name} ({answer.distinct} values, so {why})",
        f"id: {ids.name} (no value twice)" if ids else "id: none; rows are counted",
    ]
    names: dict[str, Any] = {split: file.name for split, file in files.items()}
    return {
        "kind": kind, **names, "text": [column.name for column in texts], "label": answer.name,
        **({"id": ids.name} if ids else {}), **facts, "max_length": _length(texts, facts),
    }, reasons  # fmt: skip


def _cells(path: Path, column: Column) -> Sequence[str]:
    """What a column says in a file; nothing where that file lacks it, as a test file may."""
    return next((one.cells for one in _columns(path) if one.name == column.name), ())


def _label(columns: Sequence[Column], text: Sequence[str], path: Path) -> Column:
    """The column with a label's name, else the one with the fewest values that come again and again."""
    free = [column for column in columns if column.name not in text and column.distinct > 1]
    named = [column for column in free if column.name.lower() in LABEL_WORDS]
    repeated = sorted((c for c in free if c.distinct <= len(c.cells) / 2 and not c.is_text), key=lambda c: c.distinct)
    if not named and not repeated:
        fail("D12", "no column looks like a label", where=f"{path}:1", fix="name it with --label")
    return (named or repeated)[0]


def _id(columns: Sequence[Column], taken: Sequence[Column]) -> Column | None:
    """A column that names each row, one called so if there is one."""
    single = [c for c in columns if c not in taken and c.distinct == len(c.cells) and all(map(str.strip, c.cells))]
    return next((c for c in single if "id" in c.name.lower()), next(iter(single), None))


def _answers(column: Column, pair: bool) -> tuple[str, dict[str, Any], str]:
    """The kind of task, what its answers may be, and why."""
    values = sorted({cell.strip() for cell in column.cells if cell.strip()})
    whole = column.numbers and all(float(value) == int(float(value)) for value in values)
    if column.numbers and pair and (not whole or len(values) > CLASSES):
        numbers = [float(value) for value in values]
        low, high = min(0.0, *numbers), max(numbers)
        ends = [int(end) if end == int(end) else end for end in (low, high)]
        return "similarity", {"range": ends, "encoding": "bi"}, f"a similarity from {ends[0]} to {ends[1]}"
    if len(values) > CLASSES:
        fail("P05", f"column {quoted(column.name)} has {len(values)} values, too many for classes", where="--label",
             fix="name the column of the label")  # fmt: skip
    ordered = sorted(values, key=float) if column.numbers else values
    return "classification", {"labels": [_plain(value) for value in ordered]}, "a classification"


def _plain(value: str) -> str | int:
    return int(value) if value.isascii() and value.isdigit() and str(int(value)) == value else value


def _length(texts: Sequence[Column], facts: Mapping[str, Any]) -> int:
    """Room for all but the longest hundredth of the rows."""
    words = [[len(cell.split()) for cell in column.cells] for column in texts]
    rows = sorted(map(max if facts.get("encoding") == "bi" else sum, zip(*words, strict=True)))
    wanted = PIECES_A_WORD * rows[int(0.99 * (len(rows) - 1))] + 3
    return next((length for length in LENGTHS if wanted <= length), LENGTHS[-1])
