"""`yourbert localize-skills`: find the weights that carry a task's skill."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from yourbert.cli.options import add_runtime, runtime_of

HELP = "find the weights that carry a task's skill"
DESCRIPTION = """Grafts increasing shares of each model's fine-tuned weights onto the encoder that it was fine-tuned
from: the weights that moved most, and equally many selected by a mask trained on the task's loss. Reports dev score
and calibration error of the grafted models, and the overlap of the tasks' masks."""


def add(parser: argparse.ArgumentParser) -> None:
    build = Path("build")
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL", help="model folders")
    parser.add_argument("--encoder", type=Path, default=build / "encoder", help="the encoder before fine-tuning")
    parser.add_argument("--tokens", type=Path, default=build / "tokens", help="the folder of the tasks' tokens")
    parser.add_argument("--shares", nargs="+", type=float, default=[1e-4, 1e-3, 1e-2, 1e-1], metavar="SHARE",
                        help="shares of the encoder's weights to graft")  # fmt: skip
    parser.add_argument("--steps", type=int, default=100, help="optimizer steps of the mask training")
    parser.add_argument("--out", type=Path, default=Path("report/skills"), metavar="FOLDER")
    add_runtime(parser)
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    from tabulate import tabulate

    from yourbert.experiments.skills import draw_overlap, draw_scores, localize_skills

    arguments = (options.models, options.encoder, options.tokens, options.shares, options.steps)
    lines, pairs = localize_skills(*arguments, runtime_of(options), options.out)
    draw_scores(lines, options.out / "skills.svg")
    draw_overlap(pairs, options.out / "overlap.svg")
    rows = [(run, mask, f"{share:g}", g.score, g.calibration) for run, mask, share, g in lines]
    header = ("task", "weights", "share", "dev", "calibration error")
    sys.stdout.write(tabulate(rows, header, "simple", floatfmt=".3f", disable_numparse=[2], missingval="-") + "\n\n")
    sys.stdout.write("Share of a task's learned mask that another task's mask contains:\n\n")
    sys.stdout.write(
        tabulate(pairs, ("task", "other", "share", "overlap"), "simple", floatfmt=("", "", "g", ".3f")) + "\n"
    )
