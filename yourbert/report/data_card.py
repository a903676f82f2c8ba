"""The data card: rows read, used and rejected, their lengths and labels, and leakage between files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from yourbert.core.errors import cleaned
from yourbert.core.tasks import SPLITS, Kind, Split
from yourbert.report.load import Gathered
from yourbert.report.tables import NOTHING, count, number, plain, table

MOST_LABELS = 8  # whose shares can be read one by one


def files_table(gathered: Gathered) -> str:
    """Rows read, used, rejected and truncated, for every file."""
    header = ["task", "split", "file", "rows read", "used", "rejected", "truncated", "rows also in train"]
    rows = []
    for task, split, one in _accounts(gathered):
        shared = gathered.accounts[task].get("overlap", {}).get(f"{split}_in_train")
        counts = [one.get(k) for k in ("rows_read", "rows_used", "rows_rejected", "truncated")]
        rows.append([plain(task), split, plain(one.get("file", "")), *map(count, [*counts, shared])])
    return table(header, rows, left=3)


def rows_table(gathered: Gathered) -> str:
    """The lengths of the inputs before truncation, and the label distribution."""
    header = ["task", "split", "labels", "tokens, median", "90th percentile", "longest"]
    rows = []
    for task, split, one in _accounts(gathered):
        length = one.get("length", {})
        labels = plain(_labels(one["labels"], gathered.tasks[task].kind)) if one.get("labels") else NOTHING
        rows.append([plain(task), split, labels, *(count(length.get(k)) for k in ("p50", "p90", "max"))])
    return table(header, rows, left=3)


def _labels(found: Mapping[str, float], kind: Kind) -> str:
    if kind == "similarity":
        return f"mean {number(found['mean'])}, sd {number(found['sd'])}"
    rows = max(1, sum(found.values()))
    shares = {label: f"{cleaned(label)}: {100 * of / rows:.3g}%" for label, of in found.items()}
    if len(found) <= MOST_LABELS:
        return ", ".join(shares.values())
    rarest, commonest = (shares[choose(found, key=found.__getitem__)] for choose in (min, max))
    return f"{len(found)}, from {rarest} to {commonest}"


def overlap_table(overlaps: Mapping[str, Any]) -> str:
    """{"sts/dev": {"quora/train": 3}} as lines."""
    rows = [[plain(there), plain(here), count(n)] for here, found in overlaps.items() for there, n in found.items()]
    return table(["trained on", "scored on", "texts in both"], rows, left=2)


def _accounts(gathered: Gathered) -> Iterator[tuple[str, Split, Mapping[str, Any]]]:
    for task, account in gathered.accounts.items():
        found = account.get("splits", {})
        yield from ((task, split, found[split]) for split in SPLITS if split in found)
