"""`yourbert add-mixtures`: add a mixture for every subset of tasks."""

from __future__ import annotations

import argparse
import sys

HELP = "add a mixture for every subset of tasks"
DESCRIPTION = """Adds a mixture to params.yaml for every subset of two or more tasks, with the settings of an existing
mixture. `dvc repro` then trains the new ones, and report/cost.md says what each task gains from which others."""


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="the tasks to combine; default: all")
    parser.add_argument("--like", metavar="MIXTURE", help="the mixture whose settings are copied; default: the first")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    from yourbert.experiments.subsets import add_mixtures

    added, existing = add_mixtures(options.tasks, options.like)
    for title, names in (("added to params.yaml", added), ("there already", existing)):
        if names:
            sys.stdout.write(f"{title}: {', '.join(names)}\n")
