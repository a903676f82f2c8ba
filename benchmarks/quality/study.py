"""The study's tables and figure beside ours, from the experiments that docs/study.md queues.

`python -m benchmarks.quality.study` reads the last commit and its DVC experiments and prints Markdown;
`python -m benchmarks.quality.study --figure docs/study-figure-1.svg` also draws figure 1.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tabulate import tabulate

from yourbert.report.charts import canvas, save

SEED = 11711
# The study's Table 1: dev accuracy on sst and cfimdb.
STUDY_TABLE_1 = {
    "default": (0.530, 0.967),
    "batch=16": (0.525, 0.968),
    "batch=32": (0.517, 0.962),
    "seed=33333": (0.508, 0.976),
    "seed=100": (0.528, 0.953),
    "dropout=0.1": (0.524, 0.975),
    "dropout=0.7": (0.526, 0.967),
    "lr=1e-3": (0.262, 0.502),
}
# The study's row -> the experiment that repeats it, its seed, and what it sets.
TABLE_1 = {
    "default": ("base", SEED, "batch 16, dropout 0.1"),
    "batch=16": ("base", SEED, "the same run"),
    "batch=32": ("batch-32", SEED, "`-S batch_size=32`"),
    "seed=33333": ("seed-33333", 33333, "`-S seeds=[33333]`"),
    "seed=100": ("seed-100", 100, "`-S seeds=[100]`"),
    "dropout=0.1": ("base", SEED, "the same run"),
    "dropout=0.7": ("dropout-0.7", SEED, "`-S head_dropout=0.7`"),
    "lr=1e-3": ("lr-1e-3", SEED, "`-S lr=1e-3`"),
}
# Task -> last layer, whole model: read off the bars of the study's figure 1 by its course's reference values.
FIGURE_1 = {"sst": (0.390, 0.515), "cfimdb": (0.780, 0.966)}
LAST_LAYER = "last-layer"

Metrics = dict[str, dict[str, Any]]


def experiments() -> dict[str, Metrics]:
    """Experiment name -> its metrics files, for the experiments of the last commit."""
    done = subprocess.run(["dvc", "exp", "show", "--json"], capture_output=True, text=True, check=True)
    commit = json.loads(done.stdout)[1]
    return {experiment["name"]: _metrics(experiment["revs"][0]) for experiment in commit["experiments"] or []}


def _metrics(revision: dict[str, Any]) -> Metrics:
    files = (revision["data"] or {}).get("metrics") or {}
    return {path: content["data"] for path, content in files.items() if "data" in content}


def dev(found: dict[str, Metrics], experiment: str, run: str, task: str, seed: int = SEED) -> float | None:
    """The dev score of a task in a run of an experiment; None where it was not run."""
    scores = found.get(experiment, {}).get(f"metrics/runs/{run}/{seed}.json", {}).get(task, {}).get("dev", {})
    score = scores.get("accuracy", scores.get("pearson"))
    return None if score is None else float(score)


def shown(score: float | None) -> str:
    return "-" if score is None else f"{score:.3f}"


def table_1(found: dict[str, Metrics]) -> str:
    rows = []
    for setting, (name, seed, how) in TABLE_1.items():
        study = [shown(score) for score in STUDY_TABLE_1.get(setting, (None, None))]
        ours = [shown(dev(found, name, task, task, seed)) for task in ("sst", "cfimdb")]
        rows.append([setting, study[0], ours[0], study[1], ours[1], how])
    head = ["the study's row", "study: sst", "ours: sst", "study: cfimdb", "ours: cfimdb", "ours is"]
    return tabulate(rows, head, tablefmt="pipe", disable_numparse=True)


def figure_1(found: dict[str, Metrics]) -> list[tuple[str, str, float, float | None]]:
    """(task, what learns, the study's score, ours) for each bar."""
    bars = []
    for task, (last, whole) in FIGURE_1.items():
        bars.append((task, "last layer", last, dev(found, LAST_LAYER, task, task)))
        bars.append((task, "whole model", whole, dev(found, "base", task, task)))
    return bars


def draw(bars: list[tuple[str, str, float, float | None]], path: Path) -> None:
    figure, axes = canvas(6, 3.2)
    for offset, label, scores in (
        (-0.2, "course reference", [bar[2] for bar in bars]),
        (0.2, "YourBERT, default model", [bar[3] or 0.0 for bar in bars]),
    ):
        drawn = axes.bar([place + offset for place in range(len(bars))], scores, 0.38, label=label)
        axes.bar_label(drawn, fmt="%.3f", fontsize=8)
    axes.set_xticks(range(len(bars)), [f"{task}\n{what}" for task, what, _, _ in bars])
    axes.set_ylabel("dev accuracy")
    axes.set_ylim(0, 1.1)
    axes.legend(loc="upper left", fontsize=8)
    save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure", type=Path, help="where to draw figure 1")
    figure = parser.parse_args().figure
    found = experiments()
    bars = figure_1(found)
    rows = [[task, what, shown(study), shown(ours)] for task, what, study, ours in bars]
    head = ["task", "what learns", "course reference", "ours"]
    table = tabulate(rows, head, tablefmt="pipe", disable_numparse=True)
    sys.stdout.write(f"Table 1\n\n{table_1(found)}\n\nFigure 1\n\n{table}\n")
    if figure:
        draw(bars, figure)


if __name__ == "__main__":
    main()
