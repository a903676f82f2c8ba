"""Proposes a task's block of params.yaml from its files: the text columns, the label column and the labels.

All rows of all files are read. Every guess is reported with its reason, and `Choices` replaces each of them. The files
are then checked row by row against the proposed block, as the pipeline does.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from yourbert.config.params import PARAMS_FILE, add_entries, read_params
from yourbert.config.schema import OnInvalidRow, TaskData
from yourbert.core.errors import SHOWN_PER_FILE, Problem, UserError, fail, quoted, shortened
from yourbert.core.tasks import PairEncoding, Quoting, Split
from yourbert.core.text import MISSING, label_key
from yourbert.corpus.formats import DelimitedTable, Table, open_table
from yourbert.corpus.rows import DECIMAL, check_file
from yourbert.corpus.statistics import MAJORITY, differ_in_case

SAMPLE = 5_000  # rows of a file, drawn over the whole of it, from which texts and lengths are judged
TYPED_ROWS = 100  # rows of a jsonl or parquet file in which lists and objects are looked for
MAX_VALUES = 10_000  # distinct values of a column that are counted; one with more is no label
MAX_NUMBERS = 30  # a pair whose label has more distinct numbers is a similarity
MIN_WORDS = 2  # mean number of words per cell of a text column
TRUNCATED = 0.01  # share of rows that the proposed `max_length` may truncate
MAX_LENGTHS = (64, 128, 256, 512)  # the proposed values of `max_length`
SPECIAL_TOKENS = 3

NO_ID = "none"
LABEL_NAMES = frozenset(
    ["label", "labels", "class", "category", "target", "score", "sentiment", "similarity", "rating", "gold", "intent"]
)
TEXT_NAMES = frozenset(["text", "sentence", "review", "comment", "content", "body", "message", "utterance", "tweet"])
ID_NAMES = frozenset(["id", "ids", "idx", "index", "key", "uuid", "guid"])
PAIRS = (("premise", "hypothesis"), ("first", "second"), ("query", "document"), ("query", "passage"),
         ("question", "answer"), ("source", "target"), ("left", "right"))  # fmt: skip
# Scripts that are written without spaces: Thai, Lao, Burmese, Khmer, Japanese and Chinese.
WITHOUT_SPACES = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
NAME_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
# Words and punctuation, each of which is a token or more, for an estimate without a tokenizer.
PARTS = re.compile(r"\w+|[^\w\s]")
PIECE = 4  # characters per word piece of a long or rare word
# What a command line can do about a problem whose usual fix is to edit params.yaml.
FIXES = {
    "D03": "close it, double the quotes inside a quoted field, or add --quoting none if quotes are plain characters",
    "D12": "name the column with --text, --label or --id",
    **dict.fromkeys(["D14", "D16"], "correct the row, name all labels with --labels, or add --on-invalid-row drop"),
    "D17": "correct the row, or use --kind similarity for numbers",
    "D18": "correct the row, or give its scale with --range LOW HIGH",
    **dict.fromkeys(["D15", "D20"], "add it, delete the row, or add --on-invalid-row drop"),
    "D09": "give each row a unique id, or use --id none",
}

CountTokens = Callable[[Sequence[str]], list[int]]


@dataclass(frozen=True)
class Choices:
    """What the caller decides instead of the guess; None or empty where it is guessed.

    text, label, row_id: names of columns; row_id may be "none". labels: the classes in order. limits: the lowest and
    the highest similarity. The others are keys of the block.
    """

    text: Sequence[str] = ()
    label: str | None = None
    row_id: str | None = None
    kind: str | None = None
    labels: Sequence[str] = ()
    limits: tuple[float, float] | None = None
    encoding: PairEncoding | None = None
    max_length: int | None = None
    metric: str | None = None
    on_invalid_row: OnInvalidRow | None = None
    quoting: Quoting = "standard"


@dataclass
class Column:
    """One column of all files. values: how often each value occurs, None if there are too many to count.

    unique: whether no cell is empty and none occurs twice in a file, known only for columns whose name means an id.
    """

    name: str
    values: dict[str, int] | None = field(default_factory=dict)
    sample: list[str] = field(default_factory=list)
    unique: bool = False

    @property
    def parts(self) -> frozenset[str]:
        return frozenset(part.lower() for part in NAME_PARTS.findall(self.name))

    def add(self, cell: str) -> None:
        if self.values is not None:
            self.values[cell] = self.values.get(cell, 0) + 1
            if len(self.values) > MAX_VALUES:
                self.values = None

    @property
    def words(self) -> float:
        """The mean number of words per cell; two characters of a script without spaces count as a word."""
        return sum(len(c.split()) + len(WITHOUT_SPACES.findall(c)) // 2 for c in self.sample) / len(self.sample)

    @property
    def numbers(self) -> bool:
        cells = [cell.strip() for cell in (self.sample if self.values is None else self.values) if cell.strip()]
        return bool(cells) and all(map(DECIMAL.fullmatch, cells))

    @property
    def varied(self) -> bool:
        return len(set(self.sample)) > len(self.sample) / 2

    @property
    def is_text(self) -> bool:
        return self.varied and not self.numbers and self.words >= MIN_WORDS

    def shown(self) -> str:
        """The column with an example, for a message."""
        return f"{quoted(self.name)} ({quoted(self.sample[0])})"


def propose_task(
    name: str,
    files: Mapping[Split, Path],
    choices: Choices,
    path: Path = PARAMS_FILE,
    count_tokens: CountTokens | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Adds a task to params.yaml; returns its block, and a line about each guess with the reason.

    files: the files of train, dev and, if there is one, test. count_tokens: the number of tokens of each text, None to
    estimate it. Raises UserError: P05 (the task exists, two files have the same name, or the choices contradict each
    other or the files), D codes (a column is missing or cannot be guessed, or a row does not fit the block).
    params.yaml is then unchanged.
    """
    if name in read_params(path).tasks:
        fail("P05", f"the task '{name}' already exists", where=str(path), fix="choose another name, or edit its block")
    _check_places(files)
    columns, rows = _columns(files, _usable_names(files["train"], choices), choices.quoting)
    block, reasons = _block(columns, rows, files, choices, count_tokens or estimate_tokens)
    data = TaskData.model_validate(block)
    if problems := list(data.problems()):
        raise UserError(Problem("P05", what, where=f"task '{name}'", fix="change the options") for what in problems)
    invalid = [problem for split, file in files.items() for problem in check_file(file, name, data, split)]
    if invalid:
        raise UserError(replace(problem, fix=FIXES.get(problem.code, problem.fix)) for problem in invalid)
    add_entries(path, "tasks", {name: {"lr": None, "batch_size": None, "epochs": None, "data": block}})
    return block, reasons


def estimate_tokens(texts: Sequence[str]) -> list[int]:
    """About the number of tokens of each text, rather too many: four characters of a long word are a token."""
    return [sum(-(-len(part) // PIECE) if len(part) > 2 * PIECE else 1 for part in PARTS.findall(text))
            + len(WITHOUT_SPACES.findall(text)) for text in texts]  # fmt: skip


def _check_places(files: Mapping[Split, Path]) -> None:
    """All files must be in one folder, the corpus, under different names."""
    for split, file in files.items():
        for other, earlier in files.items():
            if other == split:
                break
            if file.resolve() == earlier.resolve():
                what = f"{other} and {split} are the same file"
                fail("P05", what, where=str(file), fix="split the table into one file for each")
    folders = sorted({str(file.resolve().parent) for file in files.values()})
    if len(folders) > 1:
        what = f"the files are in different folders: {', '.join(folders)}"
        fail("P05", what, where=str(files["train"]), fix="put them into one folder, under different names")


def _usable_names(path: Path, given: Choices) -> list[str]:
    """The columns with a name and, in a file with typed values, with scalars; those that are given in any case.

    Raises UserError (D12) for a given column that the file lacks.
    """
    table = open_table(path, given.quoting)
    asked = [*given.text, *filter(None, [given.label])]
    if given.row_id and (given.row_id != NO_ID or NO_ID in table.columns):
        asked.append(given.row_id)
    try:
        table.column_indices(asked)
    except UserError as error:
        raise UserError(replace(problem, fix="correct the name") for problem in error.problems) from None
    names = [name for name in table.columns if name.strip()]
    if isinstance(table, DelimitedTable):
        return names
    scalar = [name for name in names if name in asked or not _has_lists(table, name)]
    return scalar if len(scalar) > 1 else names


def _has_lists(table: Table, name: str) -> bool:
    rows = islice(table.rows([name]), TYPED_ROWS)
    return any(isinstance(cells, Problem) and cells.code == "D35" for _, cells in rows)


def _columns(files: Mapping[Split, Path], names: Sequence[str], quoting: Quoting) -> tuple[list[Column], int]:
    """The columns of train with the values of all files, and the number of rows that could be read."""
    columns, rows = [Column(name) for name in names], 0
    ids = {column.name for column in columns if column.parts & ID_NAMES}
    repeated: set[str] = set()
    for split, file in files.items():
        table, rng = open_table(file, quoting), random.Random(0)
        here = [column for column in columns if column.name in table.columns]
        seen: dict[str, set[int]] = {column.name: set() for column in here if column.name in ids}
        sample: list[Sequence[str]] = []
        problems: list[Problem] = []
        read = 0
        for line, cells in table.rows([column.name for column in here]):
            if isinstance(cells, Problem):
                problems.append(cells if cells.where else replace(cells, where=f"{file}:{line}"))
                continue
            read += 1
            for column, cell in zip(here, cells, strict=True):
                column.add(cell)
                if column.name in seen and column.name not in repeated:
                    if not cell.strip() or hash(cell) in seen[column.name]:
                        repeated.add(column.name)
                    seen[column.name].add(hash(cell))
            # A sample of the whole file, since a table may be sorted by label or by length.
            if read <= SAMPLE:
                sample.append(cells)
            elif (at := rng.randrange(read)) < SAMPLE:
                sample[at] = cells
        if not read:
            raise UserError(problems[:SHOWN_PER_FILE] or [Problem("D11", "no rows below the header", f"{file}:1")])
        rows += read
        if split == "train":
            for column, drawn in zip(here, zip(*sample, strict=True), strict=True):
                column.sample = list(drawn)
    for column in columns:
        column.unique = column.name in ids - repeated
    return columns, rows


def _block(
    columns: Sequence[Column], rows: int, files: Mapping[Split, Path], given: Choices, count_tokens: CountTokens
) -> tuple[dict[str, Any], list[str]]:
    known, where = {column.name: column for column in columns}, f"{files['train']}:1"
    texts = [known[name] for name in given.text] or None
    label = known[given.label] if given.label else _label(columns, texts or _texts(columns, None), rows, where)
    texts = texts or _texts(columns, label)
    if not texts:
        fail("D12", f"no column looks like a text ({_seen(columns)})", where=where, fix="name it with --text")
    _check_header(texts[0], label, where)
    row_id = _id(columns, given.row_id, [*texts, label])
    keys, why = _kind(label, len(texts) == 2, rows, given, where)
    length, truncated = _max_length(texts, keys.get("encoding") == "bi", given, count_tokens)
    others = [c.name for c in columns if c.is_text and c not in (*texts, label) and not given.text]
    reasons = [
        f"text: {', '.join(column.name for column in texts)} ({texts[0].words:.0f} words on average)"
        + (f"; not used: {', '.join(others)}; for a pair use --text with two columns" if others else ""),
        f"label: {label.name} ({why})",
        f"id: {row_id.name} (all values differ)" if row_id else "id: none; rows are numbered",
        f"max_length: {length} ({truncated:.0%} of the sampled training rows are truncated)",
    ]  # fmt: skip
    names: dict[str, Any] = {split: file.name for split, file in files.items()}
    quoting = None if given.quoting == "standard" else given.quoting
    optional = {"metric": given.metric, "on_invalid_row": given.on_invalid_row, "quoting": quoting}
    return {
        "kind": keys.pop("kind"), **names, "text": [column.name for column in texts], "label": label.name,
        **({"id": row_id.name} if row_id else {}), **keys, "max_length": length,
        **{key: value for key, value in optional.items() if value},
    }, reasons  # fmt: skip


def _seen(columns: Sequence[Column]) -> str:
    return "columns: " + shortened([column.shown() for column in columns])


def _texts(columns: Sequence[Column], label: Column | None) -> list[Column]:
    """The two columns of a pair if their names say so, else the column that is most like a text."""
    found = [column for column in columns if column.is_text and column is not label]
    for i, first in enumerate(found):
        for second in found[i + 1 :]:
            if _are_pair(first.name, second.name):
                return [first, second]
    if not found:
        # One word per cell: a name, a link, a compound. The longest column is the text.
        found = [c for c in columns if c is not label and c.varied and not c.numbers and not c.unique]
        return sorted(found, key=lambda c: -sum(map(len, c.sample)))[:1]
    return sorted(found, key=lambda c: (not c.parts & TEXT_NAMES, -c.words))[:1]


def _are_pair(first: str, second: str) -> bool:
    """Whether two names are those of a pair: "sentence1" and "sentence2", "premise" and "hypothesis"."""
    one, two = NAME_PARTS.findall(first.lower()), NAME_PARTS.findall(second.lower())
    if (first.lower(), second.lower()) in PAIRS:
        return True
    ends = [("1", "2"), ("a", "b"), ("0", "1"), ("one", "two"), ("first", "second")]
    return bool(one and two) and one[:-1] == two[:-1] and (one[-1], two[-1]) in ends


def _label(columns: Sequence[Column], texts: Sequence[Column], rows: int, where: str) -> Column:
    """The first column with a typical name of a label; else the one with the fewest distinct, repeated values."""
    candidates = [column for column in columns if column not in texts and not column.unique]
    named = [column for column in candidates if column.parts & LABEL_NAMES]
    repeated = [c for c in candidates if c.values is not None and 1 < len(c.values) <= rows / 2 and not c.is_text]
    if not named and not repeated:
        fail("D12", f"no column looks like a label ({_seen(columns)})", where=where, fix="name it with --label")
    return (named or sorted(repeated, key=lambda c: len(c.values or ())))[0]


def _check_header(text: Column, label: Column, where: str) -> None:
    """Raises UserError (D10) if the first line is a row: its cells look like those below."""
    if len(text.name.split()) > MIN_WORDS and label.name in (label.values or ()):
        what = f"the first line looks like a row, not like a header: {quoted(text.name)}, {quoted(label.name)}"
        fail("D10", what, where=where, fix="add a first line with the names of the columns, such as text,label")


def _id(columns: Sequence[Column], given: str | None, used: Sequence[Column]) -> Column | None:
    """The given column, None for "none"; else the first that is called an id and differs in every row."""
    if given:
        return next((column for column in columns if column.name == given), None)
    return next((column for column in columns if column.unique and column not in used), None)


def _distinct(values: Mapping[str, int]) -> list[str]:
    """The values without missing ones, sorted; of several spellings of one label the most frequent."""
    spellings: dict[str, str] = {}
    for value in sorted(values, key=lambda value: (-values[value], value)):
        if not _is_missing(value.strip()):
            spellings.setdefault(label_key(value), value.strip())
    return sorted(spellings.values())


def _is_missing(value: str) -> bool:
    """Whether a value of the label column stands for no label; "none" in lower case is a frequent class."""
    return value.lower() in MISSING and value != "none"


def _kind(label: Column, pair: bool, rows: int, given: Choices, where: str) -> tuple[dict[str, Any], str]:
    """The keys that depend on the labels, and the reason."""
    values = None if label.values is None else _distinct(label.values)
    count = f"more than {MAX_VALUES}" if values is None else str(len(values))
    numbers = [float(value) for value in values or label.sample if DECIMAL.fullmatch(value.strip())]
    whole = label.numbers and all(number == int(number) for number in numbers)
    similarity = label.numbers and pair and (values is None or not whole or len(values) > MAX_NUMBERS)
    kind = given.kind or ("similarity" if given.limits else "classification" if given.labels else None)
    if kind == "similarity" or (kind is None and similarity):
        if not numbers and given.limits is None:
            what = f"column {quoted(label.name)} has no numbers"
            fail("P05", what, where=where, fix="name the column of the similarity with --label")
        ends = given.limits or (min(0.0, *numbers), max(numbers))
        low, high = (int(end) if end == int(end) else end for end in ends)
        keys = {"kind": "similarity", "range": [low, high], "encoding": given.encoding or ("bi" if pair else "cross")}
        return keys, f"{count} values, so a similarity from {low} to {high}"
    if given.labels:
        return _classes(given.labels, label, given), f"{len(given.labels)} classes, as given"
    if kind is None and not whole and label.numbers:
        what = f"column {quoted(label.name)} has {count} different numbers, and a single text has classes"
        fix = "name another column with --label, two with --text for a similarity, or use --kind classification"
        fail("P05", what, where=where, fix=fix)
    if values is not None and len(values) < 2:
        what = f"column {quoted(label.name)} has only the value {quoted(''.join(values))}"
        fail("P05", what, where=where, fix="name the column of the label with --label, or all classes with --labels")
    if values is None or len(values) > rows / 2:
        what = f"column {quoted(label.name)} has {count} values in {rows} rows, so they are no classes"
        fail("P05", what, where=where, fix="name the column of the label with --label")
    ordered = sorted(values, key=float) if label.numbers else values
    alike = [f"{value} and {group[-1]}" for group in differ_in_case(ordered) for value in group[:-1]]
    differ = f"; only the case differs in {shortened(alike)}" if alike else ""
    return _classes(ordered, label, given), f"{count} values, so a classification{differ}"


def _classes(labels: Iterable[str], label: Column, given: Choices) -> dict[str, Any]:
    keys: dict[str, Any] = {"kind": "classification", "labels": [_as_int(text) for text in labels]}
    if given.encoding:
        keys["encoding"] = given.encoding
    counts = (label.values or {}).values()
    if not given.metric and counts and max(counts) >= MAJORITY * sum(counts):
        keys["metric"] = "macro_f1"
    return keys


def _as_int(text: str) -> str | int:
    """The label as YAML writes it best: an integer if that has the same spelling."""
    return int(text) if text.isascii() and text.isdigit() and str(int(text)) == text else text


def _max_length(
    texts: Sequence[Column], separate: bool, given: Choices, count_tokens: CountTokens
) -> tuple[int, float]:
    """The smallest proposed length that truncates few rows, or the given one; and the share that it truncates."""
    counts = [count_tokens(column.sample) for column in texts]
    tokens = [(max if separate else sum)(row) + SPECIAL_TOKENS for row in zip(*counts, strict=True)]

    def share(length: int) -> float:
        return [number > length for number in tokens].count(True) / len(tokens)

    length = given.max_length or next((n for n in MAX_LENGTHS if share(n) <= TRUNCATED), MAX_LENGTHS[-1])
    return length, share(length)
