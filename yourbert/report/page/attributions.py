"""The words that the worst answers rest on, as `evaluate` explained them, for the page."""

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
    """A word of text `number` with what it adds to the answer's score, -1 to 1 of the most that any adds."""

    text: str
    number: int
    share: float


@dataclass(frozen=True)
class Faithfulness:
    """How far the score falls without the words that weigh most, and without as many by chance; the mean over rows."""

    first: float
    chance: float


def read_explained(predictions: Path, run: str, seed: int, task: str) -> dict[str, Explained]:
    """Row id -> its explanation, by the first seed's model; none where `evaluate` made none."""
    path = predictions / run / str(seed) / f"{task}-explained.json"
    return read_json(path) if path.is_file() else {}


def words_of(explained: Explained | None) -> list[list[Shown]]:
    """The words of each text of a row; none where it was not explained."""
    if not explained:
        return []
    words: Sequence[Mapping[str, Any]] = explained["words"]
    most = max(abs(word["weight"]) for word in words) or 1.0
    shown = [Shown(word["text"], word["number"], word["weight"] / most) for word in words]
    return [[word for word in shown if word.number == number] for number in range(1 + shown[-1].number)]


def faithfulness(explained: Mapping[str, Explained]) -> Faithfulness:
    rows = list(explained.values())
    return Faithfulness(
        first=fmean(row["score"] - row["without_first"] for row in rows),
        chance=fmean(row["score"] - row["without_random"] for row in rows),
    )
