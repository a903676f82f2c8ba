"""Charts: the same figures give the same bytes, and what they should say stands in them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from yourbert.core.cost import Cost
from yourbert.experiments.search.chart import draw_search
from yourbert.experiments.search.cost import Trial
from yourbert.experiments.skills import GraftScore, Line, draw_overlap, draw_scores


def tried(rung: int, settings: str, score: float | None) -> Trial:
    return Trial(rung, f"epochs={rung}", f"{settings}-{rung}", settings, score, Cost(seconds=10.0))


def grafted(run: str, calibration: float | None) -> list[Line]:
    whole: list[Line] = [
        (run, kind, share, GraftScore(score=0.5, calibration=calibration))
        for kind, share in (("all", 1.0), ("none", 0.0))
    ]
    return whole + [
        (run, kind, share, GraftScore(score=share, calibration=calibration))
        for kind in ("moved", "learnt")
        for share in (0.1, 0.01)
    ]


TRIES = [tried(1, "lr=1e-5", 0.9), tried(1, "lr=1e-4", 0.5), tried(1, "lr=9", None), tried(2, "lr=1e-4", 0.6)]
LINES = grafted("sst", 0.2) + grafted("sts", None)
PAIRS = [
    (one, two, share, 1.0 if one == two else share)
    for one in ("sst", "sts")
    for two in ("sst", "sts")
    for share in (0.1, 0.01)
]


@pytest.mark.parametrize(
    ("drawing", "says"),
    [
        (lambda path: draw_search(TRIES, path), ("lr=1e-4", "rung 1", "rung 2", "dev score")),
        (lambda path: draw_scores(LINES, path), ("sst, learnt", "sts, moved", "calibration error")),
        (lambda path: draw_overlap(PAIRS, path), ("0.1 of the weights", "0.01 of the weights", "1.00", "0.10")),
        (lambda path: draw_overlap([("sst", "sst", 0.1, 1.0)], path), ("1.00",)),
    ],
)
def test_the_same_bytes_each_time(drawing: Callable[[Path], None], says: tuple[str, ...], tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg"):
        drawing(tmp_path / "new" / name)
    one, two = ((tmp_path / "new" / name).read_text() for name in ("one.svg", "two.svg"))
    assert one == two and all(word in one for word in says)
    assert not re.search(r"20\d\d-\d\d-\d\d", one), "no date"


def test_the_last_rung_has_the_best_not_a_lucky_first_one(tmp_path: Path) -> None:
    draw_search(TRIES, tmp_path / "search.svg")
    assert "lr=1e-5" not in (tmp_path / "search.svg").read_text()
