"""`yourbert compare`: compare two revisions by paired tests."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HELP = "compare two revisions by paired tests"
DESCRIPTION = """Compares the dev predictions of two revisions (commit, branch, experiment or `workspace`) for every
model that both have: scores, differences with intervals, verdicts and p-values corrected over all of them, and the
number of rows fixed and broken. Nothing is trained: the predictions come from DVC's cache."""
REGRESSION = 10


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", nargs="?", default="HEAD", metavar="BEFORE", help="default: HEAD")
    parser.add_argument("after", nargs="?", default="workspace", metavar="AFTER", help="default: the workspace")
    parser.add_argument("--md", action="store_true", help="print a Markdown table")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="write the changed rows as csv")
    parser.add_argument(
        "--fail-on-regression", action="store_true", help=f"exit with {REGRESSION} if a model is significantly worse"
    )
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    from yourbert.experiments.compare import compare_revisions

    table, verdicts = compare_revisions(options.before, options.after, options.md, options.rows)
    sys.stdout.write(table + "\n")
    if options.fail_on_regression and "worse" in verdicts.values():
        sys.exit(REGRESSION)
