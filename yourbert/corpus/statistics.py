"""Statistics of a task's rows: lengths, classes, truncation, unknown tokens, contradicting labels, and leakage.

Texts are compared by hash (`leakage.py`); a pair equals the same pair in reverse order.
Shapes: R rows of a split, S sequences and N texts of a chunk of them, U unique texts.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from yourbert.config.schema import TaskData
from yourbert.core.errors import Problem, UserError
from yourbert.core.tasks import Split, Task
from yourbert.corpus.leakage import Hashes, row_keys
from yourbert.corpus.rows import Row, RowCounts, first_of

WARNED_SHARE = 0.1  # of truncated inputs, and of tokens that the model does not know
MAJORITY = 0.8  # share of the largest class from which accuracy says little, and macro F1 is proposed
MAX_LENGTH = 1 << 16  # longer lengths are counted as this one


class TokenCounts(NamedTuple):
    """The tokens of some sequences after truncation, without special tokens.

    words: their number. unknown: how many of them are [UNK]. without: the number of sequences that have none.
    """

    words: int
    unknown: int
    without: int


NO_TOKENS = TokenCounts(0, 0, 0)


class SplitStatistics:
    """The statistics of one split: `add` chunks of rows, then `finalize`."""

    def __init__(self, path: Path, task: Task, has_labels: bool, columns: tuple[str, ...]) -> None:
        self.path, self.task, self.has_labels, self.columns = path, task, has_labels, columns
        self.counts = RowCounts()
        self._texts, self._lines, self._labels = array("Q"), array("q"), array("d")
        self._lengths = np.zeros(MAX_LENGTH + 1, dtype=np.int64)
        self.tokens = self.words = self.unknown = self.without = 0

    def add(
        self, rows: Sequence[Row], lengths_S: npt.NDArray[np.int64], texts_N: Hashes, counts: TokenCounts = NO_TOKENS
    ) -> None:
        """Adds rows. lengths_S: lengths of their sequences before truncation. texts_N: hashes of their texts."""
        self._texts.frombytes(texts_N.tobytes())
        self._lines.extend(row.line for row in rows)
        if self.has_labels:
            self._labels.extend(row.label for row in rows if row.label is not None)
        self._lengths += np.bincount(np.minimum(lengths_S, MAX_LENGTH), minlength=MAX_LENGTH + 1)
        self.tokens += int(np.minimum(lengths_S, self.task.max_length).sum())
        self.words += counts.words
        self.unknown += counts.unknown
        self.without += counts.without

    def finalize(self, counts: RowCounts) -> None:
        """Computes what needs all rows. counts: those of the file."""
        self.counts = counts
        texts_RN = np.frombuffer(self._texts, dtype=np.uint64).reshape(len(self._lines), -1)
        self.texts_U: Hashes = np.unique(texts_RN)
        self.keys_R = row_keys(texts_RN)
        self.lines_R = np.frombuffer(self._lines, dtype=np.int64)
        self.labels_R = np.frombuffer(self._labels, dtype=np.float64)
        del self._texts

    def to_json(self) -> dict[str, Any]:
        lengths = self._lengths
        statistics = self.counts.to_json() | {
            "file": self.path.name,
            "tokens": self.tokens,
            "truncated": self.truncated,
            "length": {f"p{p}": _percentile(lengths, p) for p in (50, 90, 99)}
            | {"max": int(np.flatnonzero(lengths)[-1])},
            "distinct_rows": len(np.unique(self.keys_R)),
        }
        # What most corpora do not have is only written where it occurs.
        statistics |= {"unknown_tokens": self.unknown} if self.unknown else {}
        statistics |= {"inputs_without_tokens": self.without} if self.without else {}
        if self.has_labels:
            statistics["labels"] = self._labels_json()
            statistics["same_text_two_labels"] = len(self.contradictions)
        return statistics

    @property
    def truncated(self) -> int:
        return int(self._lengths[self.task.max_length + 1 :].sum())

    @property
    def inputs(self) -> int:
        return int(self._lengths.sum())

    def _labels_json(self) -> dict[str, float]:
        if self.task.kind == "classification":
            return dict(zip(self.task.labels, self.class_counts(), strict=True))
        return {name: round(float(f(self.labels_R)), 5) for name, f in (("mean", np.mean), ("sd", np.std))}

    def class_counts(self) -> list[int]:
        return [int(n) for n in np.bincount(self.labels_R.astype(np.int64), minlength=len(self.task.labels))]

    @cached_property
    def contradictions(self) -> list[int]:
        """For each text (or pair) that has more than one label, the line of its first row."""
        order = np.argsort(self.keys_R, kind="stable")
        keys, labels = self.keys_R[order], self.labels_R[order]
        starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
        differ = np.maximum.reduceat(labels, starts) != np.minimum.reduceat(labels, starts)
        return sorted(int(line) for line in self.lines_R[order[starts[differ]]])

    def shared_lines(self, other: SplitStatistics) -> list[tuple[int, int]]:
        """(line, line in `other`) of every row whose text, or pair in either order, also occurs in `other`."""
        keys, first = np.unique(other.keys_R, return_index=True)
        at = np.minimum(np.searchsorted(keys, self.keys_R), len(keys) - 1)
        hits = np.flatnonzero(keys[at] == self.keys_R)
        lines = zip(self.lines_R[hits].tolist(), other.lines_R[first[at[hits]]].tolist(), strict=True)
        return [(int(here), int(there)) for here, there in lines]


def _percentile(counts: npt.NDArray[np.int64], percent: int) -> int:
    """The smallest length that `percent` of the sequences do not exceed. counts: the number of each length."""
    return int(np.searchsorted(np.cumsum(counts), percent / 100 * counts.sum()))


def split_warnings(task: Task, splits: Mapping[Split, SplitStatistics]) -> list[str]:
    """Warnings about classes, dropped rows, contradicting labels, and about what the model cannot see."""
    train = splits["train"]
    warnings = []
    if task.kind == "classification":
        absent = [label for label, n in zip(task.labels, train.class_counts(), strict=True) if n == 0]
        warnings += [f"D24 {train.path.name}: no row with label {', '.join(absent)}"] if absent else []
        warnings += [
            f"D38 labels that differ only in case: {', '.join(alike)}" for alike in differ_in_case(task.labels)
        ]
    for split in splits.values():
        name, counts = split.path.name, split.counts
        if n := counts.rejected.total():
            first = first_of([f"line {line}: {code} {reason}" for line, code, reason in counts.listed])
            warnings.append(f"{name}: {n} of {counts.rows_read} rows dropped ({first})")
        if split.has_labels and (lines := split.contradictions):
            warnings.append(f"D22 {name}: {len(lines)} texts have two labels (lines {first_of(lines)})")
        if n := counts.line_breaks.count:
            warnings.append(f"D36 {name}: {n} texts contain line breaks (lines {counts.line_breaks})")
        if n := counts.missing_texts.count:
            what = f"{n} texts only spell a missing value, such as nan, and are used as texts"
            warnings.append(f"D37 {name}: {what} (lines {counts.missing_texts})")
        if n := counts.hidden_characters:
            warnings.append(f"D27 {name}: {n} control, zero-width or bidirectional characters")
        warnings += _unseen(task, name, split)
    return warnings + _imbalance(task, splits["dev"])


def differ_in_case(labels: Sequence[str]) -> list[list[str]]:
    """Groups of labels that differ only in case."""
    groups: dict[str, list[str]] = {}
    for label in labels:
        groups.setdefault(label.casefold(), []).append(label)
    return [group for group in groups.values() if len(group) > 1]


def _unseen(task: Task, name: str, split: SplitStatistics) -> Iterator[str]:
    """Warnings about a large part of the text that does not reach the model."""
    if split.truncated >= WARNED_SHARE * split.inputs:
        longest = f"{split.truncated} of {split.inputs} inputs are longer than max_length {task.max_length}"
        yield f"D31 {name}: {longest} and are truncated (`truncation_side: {task.truncation_side}`)"
    if split.unknown and split.unknown >= WARNED_SHARE * split.words:
        share = f"{split.unknown / split.words:.0%} of the tokens are [UNK]"
        yield f"D32 {name}: {share}: the vocabulary of the model lacks these characters; use a model of this language"
    if split.without:
        yield f"D33 {name}: {split.without} inputs have no token beside the special ones"


def _imbalance(task: Task, dev: SplitStatistics) -> list[str]:
    """A warning where always predicting the most frequent label is nearly as accurate as any model."""
    if task.kind != "classification" or task.metric != "accuracy" or not dev.has_labels:
        return []
    counts = dev.class_counts()
    share = max(counts) / max(1, sum(counts))
    if share < MAJORITY:
        return []
    label = task.labels[counts.index(max(counts))]
    what = f"{share:.0%} of the rows have the label {label}, so accuracy says little"
    return [f"D34 {dev.path.name}: {what}; set `metric: macro_f1` or `mcc`"]


def leakage_warnings(splits: Mapping[Split, SplitStatistics]) -> list[str]:
    """For each split that shares rows with train, a warning with their number and the lines of the first."""
    warnings, train = [], splits["train"]
    for split, statistics in splits.items():
        if split != "train" and (pairs := statistics.shared_lines(train)):
            lines = first_of([f"{line}={train_line}" for line, train_line in pairs])
            warnings.append(
                f"{statistics.path.name}: {len(pairs)} rows also occur in {train.path.name} (lines {lines})"
            )
    return warnings


def check_leakage(name: str, data: TaskData, splits: Mapping[Split, SplitStatistics]) -> list[str]:
    """Warnings about dev and test rows that also occur in train; with `on_leakage: error` a UserError (D21)."""
    warnings = leakage_warnings(splits)
    if warnings and data.on_leakage == "error":
        fix = "delete them from one of the two, or set the task's on_leakage: warn"
        raise UserError([Problem("D21", f"task '{name}': {warning}", fix=fix) for warning in warnings])
    return [f"D21 {warning}" for warning in warnings]


def task_statistics(task: Task, splits: Mapping[Split, SplitStatistics], warnings: Sequence[str]) -> dict[str, Any]:
    """The content of metrics/data/<task>.json."""
    pairs: tuple[tuple[Split, Split], ...] = (("dev", "train"), ("test", "train"), ("test", "dev"))
    overlap = {
        f"{split}_in_{other}": len(splits[split].shared_lines(splits[other]))
        for split, other in pairs
        if split in splits
    }
    return {
        "task": task.name,
        "splits": {split: statistics.to_json() for split, statistics in splits.items()},
        "overlap": overlap,
        "warnings": list(warnings),
    }
