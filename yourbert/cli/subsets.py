"""`yourbert subsets`: a mixture for every subset of tasks."""

from __future__ import annotations

import argparse
import sys

HELP = "a mixture for every subset of tasks"
DESCRIPTION = """Adds a mixture for every two or more of the tasks to params.yaml, with the settings of another mixture.
`dvc repro` then trains those that are missing, and report/cost.md says what each task gains from which others."""


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="the tasks to combine; all where none is named")
    parser.add_argument("--like", metavar="MIXTURE", help="whose settings the new ones take; the first, by default")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    from yourbert.experiments import subsets

    new, there = subsets.add_subsets(options.tasks, options.like)
    for title, names in (("added to params.yaml", new), ("there already", there)):
        if names:
            sys.stdout.write(f"{title}: {', '.join(names)}\n")
