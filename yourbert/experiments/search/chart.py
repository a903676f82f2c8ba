"""The chart of a search: the score of each trial against the accumulated training time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from yourbert.experiments.search.cost import Trial
from yourbert.report.charts import COLOURS, canvas, save


def draw_search(trials: Sequence[Trial], path: Path) -> None:
    """Plots a point per trial that has a score; a line joins the trials of one candidate."""
    figure, axes = canvas(7, 4)
    spent = accumulate(trial.cost.seconds for trial in trials)
    points = [
        (trial, after, trial.score) for trial, after in zip(trials, spent, strict=True) if trial.score is not None
    ]
    for settings in dict.fromkeys(trial.settings for trial, _, _ in points):
        line = [(after, score) for trial, after, score in points if trial.settings == settings]
        axes.plot(*zip(*line, strict=True), color="#cccccc", linewidth=1, zorder=1)
    for rung in sorted({trial.rung for trial, _, _ in points}):
        dots = [(after, score) for trial, after, score in points if trial.rung == rung]
        colour = COLOURS[(rung - 1) % len(COLOURS)]
        axes.plot(*zip(*dots, strict=True), "o", color=colour, markersize=4, label=f"rung {rung}")
    best, after, score = max(points, key=lambda point: (point[0].rung, point[2]))
    axes.annotate(best.settings, (after, score), textcoords="offset points", xytext=(0, 6), ha="right", fontsize=7)
    axes.set_xlabel("accumulated training time of all experiments, s")
    axes.set_ylabel("dev score")
    axes.margins(y=0.15)
    axes.legend(fontsize=7)
    save(figure, path)
