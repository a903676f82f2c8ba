"""The charts of the page, as inline SVG."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from yourbert.core.errors import fail
from yourbert.evaluation.metrics import Bin
from yourbert.report.charts import COLOURS, canvas, inline
from yourbert.report.load import Gathered
from yourbert.report.results import Figures
from yourbert.report.tables import model_name

Curve = Mapping[int, tuple[float | None, float]]  # epoch -> loss, dev score; the means over seeds


def colours(runs: Sequence[str]) -> dict[str, str]:
    return {run: COLOURS[number % len(COLOURS)] for number, run in enumerate(runs)}


def draw_scores(gathered: Gathered, figures: Figures) -> str:
    """Dev scores with their intervals, a line for each model of each task."""
    places = [(task, run) for task in gathered.tasks for run in (task, *gathered.mixtures_of(task))]
    known = [(task, run) for task, run in places if (task, "dev", run) in figures.cells]
    figure, axes = canvas(7, 0.6 + 0.26 * len(known))
    shown = colours(["single-task model", *gathered.mixtures])
    for row, (task, run) in enumerate(known):
        cell, colour = figures.cells[task, "dev", run], shown[model_name(run, task)]
        axes.plot([cell.low, cell.high], [row, row], color=colour, linewidth=2.5, solid_capstyle="round")
        axes.plot(cell.mean, row, "o", color=colour, markersize=6)
    axes.set_yticks(range(len(known)), [f"{task}, {model_name(run, task)}" for task, run in known])
    axes.invert_yaxis()
    axes.grid(axis="x")
    axes.set_xlabel("dev score with its interval")
    axes.spines[["top", "right", "left"]].set_visible(False)
    return inline(figure, "scores", "Dev scores with intervals: " + "; ".join(
        f"{task}, {model_name(run, task)} {figures.cells[task, 'dev', run].mean:.3f}" for task, run in known
    ))  # fmt: skip


def read_curves(folder: Path, run: str, task: str, seeds: Sequence[int]) -> Curve:
    """The learning curve of a task in a run. Raises UserError (C01) for a file that is none."""
    of_epoch: dict[int, list[tuple[float | None, float]]] = {}
    for seed in seeds:
        path = folder / run / f"{seed}.csv"
        try:
            with path.open(encoding="utf-8", newline="") as file:
                for line in csv.DictReader(file):
                    if line["task"] == task:
                        loss = float(line["loss"]) if line["loss"] else None
                        of_epoch.setdefault(int(line["epoch"]), []).append((loss, float(line["dev"])))
        except (OSError, ValueError, KeyError) as error:
            fail("C01", f"not a readable curve ({error})", where=str(path), fix="remove it and run `dvc repro`")
    return {
        epoch: (_mean([loss for loss, _ in both]), fmean(dev for _, dev in both)) for epoch, both in of_epoch.items()
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def draw_curves(task: str, metric: str, curves: Mapping[str, Curve]) -> str:
    """Dev score and training loss after each epoch, a line for each model."""
    figure, panels = canvas(7, 2.4, columns=2)
    shown = colours(list(curves))
    for run, curve in curves.items():
        losses = {epoch: loss for epoch, (loss, _) in curve.items() if loss is not None}
        label = model_name(run, task)
        panels[0].plot(list(curve), [dev for _, dev in curve.values()], "o-", color=shown[run], label=label)
        panels[1].plot(list(losses), list(losses.values()), "o-", color=shown[run], label=label)
    for axes, what in zip(panels, (f"dev {metric}", "training loss"), strict=True):
        axes.set_xticks(sorted({epoch for curve in curves.values() for epoch in curve}))
        axes.set_xlabel("epoch")
        axes.set_ylabel(what)
        axes.grid()
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False)
    return inline(figure, f"curves-{task}", f"{task}: dev {metric} and training loss by epoch")


def draw_calibration(task: str, bins: Mapping[str, Sequence[Bin]]) -> str:
    """Accuracy by confidence (a reliability diagram); a calibrated model lies on the diagonal."""
    figure, axes = canvas(3.2, 2.8)
    axes.plot([0, 1], [0, 1], "--", color="#999999", linewidth=1)
    shown, most = colours(list(bins)), max(b.rows for found in bins.values() for b in found)
    for run, found in bins.items():
        sure, right = [b.confidence for b in found], [b.accuracy for b in found]
        sizes = [10 + 60 * b.rows / most for b in found]
        axes.plot(sure, right, color=shown[run], linewidth=1)
        axes.scatter(sure, right, sizes, color=shown[run], label=model_name(run, task))
    axes.set_xlabel("confidence")
    axes.set_ylabel("accuracy")
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.grid()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left")
    return inline(figure, f"calibration-{task}", f"{task}: accuracy of the models by confidence")
