"""`yourbert skills`: which weights carry a task's skill."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from yourbert.cli.options import add_runtime, runtime_of

HELP = "which weights carry a task's skill"
DESCRIPTION = """Grafts ever more of each model's weights onto the encoder that it came from: those that moved most, and
as many that are chosen by the task's loss. Says what the grafted models score, how well calibrated they are, and how
far the weights of several tasks are the same ones."""


def add(parser: argparse.ArgumentParser) -> None:
    build = Path("build")
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL", help="model folders")
    parser.add_argument("--encoder", type=Path, default=build / "encoder", help="what they were tailored from")
    parser.add_argument("--tokens", type=Path, default=build / "tokens", help="their tasks' tokens")
    parser.add_argument("--shares", nargs="+", type=float, default=[1e-4, 1e-3, 1e-2, 1e-1], metavar="SHARE")
    parser.add_argument("--steps", type=int, default=100, help="of learning a mask")
    parser.add_argument("--out", type=Path, default=Path("report/skills"), metavar="FOLDER")
    add_runtime(parser)
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    from tabulate import tabulate

    from yourbert.experiments.skills import draw_kept, draw_overlap, localise

    given = (options.models, options.encoder, options.tokens, options.shares, options.steps)
    lines, pairs = localise(*given, runtime_of(options), options.out)
    draw_kept(lines, options.out / "skills.svg")
    draw_overlap(pairs, options.out / "overlap.svg")
    rows = [(run, mask, f"{share:g}", g.score, g.calibration) for run, mask, share, g in lines]
    head = ("task", "weights", "share", "dev", "calibration error")
    sys.stdout.write(tabulate(rows, head, "simple", floatfmt=".3f", disable_numparse=[2], missingval="-") + "\n\n")
    sys.stdout.write("Share of a task's learnt weights that another task's mask holds too:\n\n")
    sys.stdout.write(
        tabulate(pairs, ("task", "other", "share", "overlap"), "simple", floatfmt=("", "", "g", ".3f")) + "\n"
    )
