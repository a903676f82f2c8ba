"""`yourbert compare`: two revisions, by the paired test."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HELP = "two revisions, by the paired test"
DESCRIPTION = """Compares the dev answers of two revisions (commits, branches, experiments, or `workspace`) for every
model that both have: scores, differences with intervals, p-values corrected over all of them, verdicts, and how many
rows turned right or wrong. Nothing is trained: the predictions come from DVC's cache. With --gate the exit code is 10
when anything is really worse."""
WORSE = 10


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", nargs="?", default="HEAD", metavar="BEFORE", help="HEAD, by default")
    parser.add_argument("after", nargs="?", default="workspace", metavar="AFTER", help="the workspace, by default")
    parser.add_argument("--md", action="store_true", help="as a table of Markdown, for a pull request")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="write the rows that changed, as csv")
    parser.add_argument("--gate", action="store_true", help=f"end with code {WORSE} when anything is really worse")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    from yourbert.experiments.compare import compare_revisions

    told, verdicts = compare_revisions(options.before, options.after, options.md, options.rows)
    sys.stdout.write(told + "\n")
    if options.gate and "worse" in verdicts.values():
        sys.exit(WORSE)
