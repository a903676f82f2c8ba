"""What became of a task's rows, in numbers: lengths, classes, truncation, and texts that stand where they should not.

Texts are compared by hash, see `leakage.py`; a pair is the same pair in either order.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yourbert.core.tasks import Split, Task
from yourbert.corpus.leakage import Hashes, row_keys
from yourbert.corpus.rows import Row, RowCounts

SHOWN_PAIRS = 5  # line pairs a warning names
LONGEST = 1 << 16  # lengths from here on are counted as one


class SplitStatistics:
    """The numbers of one split; `add` its rows as they pass, then `finish`."""

    def __init__(self, path: Path, task: Task, has_labels: bool, columns: tuple[str, ...]) -> None:
        self.path, self.task, self.has_labels, self.columns = path, task, has_labels, columns
        self.counts = RowCounts()
        self._texts, self._lines, self._labels = array("Q"), array("q"), array("d")
        self._lengths = np.zeros(LONGEST + 1, dtype=np.int64)
        self.tokens = 0

    def add(self, rows: Sequence[Row], lengths_S: npt.NDArray[np.int64], texts_N: Hashes) -> None:
        """lengths_S: of each sequence of these rows before it was cut. texts_N: the hash of each of their texts."""
        self._texts.frombytes(texts_N.tobytes())
        self._lines.extend(row.line for row in rows)
        if self.has_labels:
            self._labels.extend(row.label for row in rows if row.label is not None)
        self._lengths += np.bincount(np.minimum(lengths_S, LONGEST), minlength=LONGEST + 1)
        self.tokens += int(np.minimum(lengths_S, self.task.max_length).sum())

    def finish(self, tally: RowCounts) -> None:
        self.counts = tally
        texts_RN = np.frombuffer(self._texts, dtype=np.uint64).reshape(len(self._lines), -1)
        self.texts_U: Hashes = np.unique(texts_RN)
        self.keys_R = row_keys(texts_RN)
        self.lines_R = np.frombuffer(self._lines, dtype=np.int64)
        self.labels_R = np.frombuffer(self._labels, dtype=np.float64)
        del self._texts

    def to_json(self) -> dict[str, Any]:
        counts = self._lengths
        account = self.counts.to_json() | {
            "file": self.path.name,
            "tokens": self.tokens,
            "truncated": int(counts[self.task.max_length + 1 :].sum()),
            "length": {f"p{p}": _percentile(counts, p) for p in (50, 90, 99)}
            | {"max": int(np.flatnonzero(counts)[-1])},
            "distinct_rows": len(np.unique(self.keys_R)),
        }
        if self.has_labels:
            account["labels"] = self._labels_json()
            account["same_text_two_labels"] = len(self.contradictions)
        return account

    def _labels_json(self) -> dict[str, float]:
        if self.task.kind == "classification":
            return dict(zip(self.task.labels, self.class_counts(), strict=True))
        return {name: round(float(f(self.labels_R)), 5) for name, f in (("mean", np.mean), ("sd", np.std))}

    def class_counts(self) -> list[int]:
        return [int(n) for n in np.bincount(self.labels_R.astype(np.int64), minlength=len(self.task.labels))]

    @cached_property
    def contradictions(self) -> list[int]:
        """For each text (or pair) that has more than one label, the line where it stands first."""
        order = np.argsort(self.keys_R, kind="stable")
        keys, labels = self.keys_R[order], self.labels_R[order]
        starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
        differ = np.maximum.reduceat(labels, starts) != np.minimum.reduceat(labels, starts)
        return sorted(int(line) for line in self.lines_R[order[starts[differ]]])

    def shared_lines(self, other: SplitStatistics) -> list[tuple[int, int]]:
        """(line here, line there) of every row whose text, or pair in either order, stands in `other` too."""
        keys, first = np.unique(other.keys_R, return_index=True)
        at = np.minimum(np.searchsorted(keys, self.keys_R), len(keys) - 1)
        hits = np.flatnonzero(keys[at] == self.keys_R)
        lines = zip(self.lines_R[hits].tolist(), other.lines_R[first[at[hits]]].tolist(), strict=True)
        return [(int(here), int(there)) for here, there in lines]


def _percentile(counts: npt.NDArray[np.int64], percent: int) -> int:
    """The smallest length that `percent` of the sequences do not exceed."""
    return int(np.searchsorted(np.cumsum(counts), percent / 100 * counts.sum()))


def split_warnings(task: Task, accounts: Mapping[Split, SplitStatistics]) -> list[str]:
    """What a user should know before training."""
    train = accounts["train"]
    found = []
    if task.kind == "classification":
        absent = [label for label, n in zip(task.labels, train.class_counts(), strict=True) if n == 0]
        found += [f"D24 {train.path.name}: no row with label {', '.join(absent)}"] if absent else []
    for account in accounts.values():
        if n := account.counts.rejected.total():
            first = _some([f"line {line}: {code} {reason}" for line, code, reason in account.counts.listed])
            found.append(f"{account.path.name}: {n} of {account.counts.rows_read} rows dropped ({first})")
        if account.has_labels and (lines := account.contradictions):
            found.append(f"D22 {account.path.name}: {len(lines)} texts have two labels (lines {_some(lines)})")
        if n := account.counts.hidden_characters:
            found.append(f"D27 {account.path.name}: {n} control, zero-width or bidirectional characters")
    return found


def leakage_warnings(accounts: Mapping[Split, SplitStatistics]) -> list[str]:
    """For each other split that shares rows with train: how many, and the lines of the first."""
    found, train = [], accounts["train"]
    for split, account in accounts.items():
        if split != "train" and (pairs := account.shared_lines(train)):
            shown = _some([f"{here}={there}" for here, there in pairs])
            found.append(f"{account.path.name}: {len(pairs)} rows stand in {train.path.name} too (lines {shown})")
    return found


def _some(items: Sequence[object]) -> str:
    return ", ".join(map(str, items[:SHOWN_PAIRS])) + (", .." if len(items) > SHOWN_PAIRS else "")


def task_statistics(task: Task, accounts: Mapping[Split, SplitStatistics], warnings: Sequence[str]) -> dict[str, Any]:
    """The whole of metrics/data/<task>.json."""
    pairs: tuple[tuple[Split, Split], ...] = (("dev", "train"), ("test", "train"), ("test", "dev"))
    overlap = {
        f"{split}_in_{other}": len(accounts[split].shared_lines(accounts[other]))
        for split, other in pairs
        if split in accounts
    }
    return {
        "task": task.name,
        "splits": {split: account.to_json() for split, account in accounts.items()},
        "overlap": overlap,
        "warnings": list(warnings),
    }
