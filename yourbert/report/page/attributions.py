"""Word attributions of the highest-loss rows, as `evaluate` wrote them, for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from yourbert.core.storage import read_json

Explained = Mapping[str, Any]  # an `Explanation` of yourbert/evaluation/explain.py, as JSON


@dataclass(frozen=True)
class Shown:
    """A word of text `number`, with its attribution as a share of the largest one, -1 to 1."""

    text: str
    number: int
    share: float


@dataclass(frozen=True)
class Faithfulness:
    """The drop of the score without the words of highest attribution, and without as many random words; row means."""

    first: float
    chance: float


def read_explained(predictions: Path, run: str, seed: int, task: str) -> dict[str, Explained]:
    """Row id -> its explanation by the first seed's model; empty if `evaluate` wrote none."""
    path = predictions / run / str(seed) / f"{task}-explained.json"
    return read_json(path) if path.is_file() else {}


def words_of(explained: Explained | None) -> list[list[Shown]]:
    """The words of each text of a row; empty without an explanation."""
    if not explained:
        return []
    words: Sequence[Mapping[str, Any]] = explained["words"]
    most = max(abs(word["weight"]) for word in words) or 1.0
    shown = [Shown(word["text"], word["number"], word["weight"] / most) for word in words]
    return [[word for word in shown if word.number == number] for number in range(1 + shown[-1].number)]


def faithfulness(explained: Mapping[str, Explained]) -> Faithfulness:
    rows = list(explained.values())
    return Faithfulness(
        first=fmean(row["score"] - row["score_without_top"] for row in rows),
        chance=fmean(row["score"] - row["score_without_random"] for row in rows),
    )
