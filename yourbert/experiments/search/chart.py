"""A search as a picture: what each candidate scored, rung by rung, against what the search had cost by then."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from yourbert.experiments.search.cost import Try
from yourbert.report.charts import COLOURS, canvas, save


def draw(tries: Sequence[Try], path: Path) -> None:
    """A point for each experiment that has a score, in the order of the search; a line joins those of one candidate."""
    figure, axes = canvas(7, 4)
    spent = accumulate(one.cost.seconds for one in tries)
    points = [(one, after, one.score) for one, after in zip(tries, spent, strict=True) if one.score is not None]
    for settings in dict.fromkeys(one.settings for one, _, _ in points):
        own = [(after, score) for one, after, score in points if one.settings == settings]
        axes.plot(*zip(*own, strict=True), color="#cccccc", linewidth=1, zorder=1)
    for rung in sorted({one.rung for one, _, _ in points}):
        own = [(after, score) for one, after, score in points if one.rung == rung]
        colour = COLOURS[(rung - 1) % len(COLOURS)]
        axes.plot(*zip(*own, strict=True), "o", color=colour, markersize=4, label=f"rung {rung}")
    best, after, score = max(points, key=lambda point: (point[0].rung, point[2]))
    axes.annotate(best.settings, (after, score), textcoords="offset points", xytext=(0, 6), ha="right", fontsize=7)
    axes.set_xlabel("seconds of training so far, all experiments together")
    axes.set_ylabel("dev score")
    axes.margins(y=0.15)
    axes.legend(fontsize=7)
    save(figure, path)
