"""The command `yourbert`: what to do with a tailored model. A command imports what it needs when it is run.

So `--help` and a wrong word are answered at once, without torch.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import NoReturn

from yourbert.errors import CommandLine, exit_cleanly

BROKEN_PIPE = 128 + 13  # what the shell says of a program that SIGPIPE ended


def main() -> NoReturn:
    """The console script: runs the command that the words name; a user's mistake is one line and an exit code."""
    # OpenMP reads this when torch is imported; the reason stands in stages/__init__.py.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    exit_cleanly(run)


def run() -> None:
    options = command_line().parse_args()
    try:
        options.command(options)
    except BrokenPipeError:
        # Who read the output has gone, which is no mistake. What is still in the buffer goes nowhere, silently.
        if sys.stdout:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)


def command_line() -> CommandLine:
    parser = CommandLine(prog="yourbert", description="Use a tailored model, or change what is tailored.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_predict(commands.add_parser("predict", help="answer every row of a file", description=PREDICT))
    add_subsets(commands.add_parser("subsets", help="a mixture for every subset of tasks", description=SUBSETS))
    return parser


PREDICT = """Answers every row of a table (.csv, .tsv, .jsonl, .parquet; .gz too) or every line of a text (.txt, or -
for the standard input; of a pair task, two texts with a tab between them), in order: id, prediction, and the
probability of each class."""


def add_predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="a model folder, for instance build/models/sst/11711")
    parser.add_argument("input", help="a table or text file, or -")
    parser.add_argument("--task", help="which task of a model that has several")
    parser.add_argument("--columns", nargs="+", default=[], metavar="NAME", help="where a table has its texts")
    parser.add_argument("--id", metavar="NAME", help="where a table has its ids; else rows are counted from 0")
    parser.add_argument("--out", type=Path, metavar="FILE", help=".csv, .tsv or .jsonl; else csv to standard output")
    add_runtime(parser)
    parser.set_defaults(command=predict)


def add_runtime(parser: argparse.ArgumentParser) -> None:
    """The options that say what to compute with, as the keys of the same names in params.yaml."""
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="auto: the fastest")
    parser.add_argument("--threads", type=count, default=0, metavar="N", help="0, the default: one per physical core")


def count(word: str) -> int:
    if not (word.isascii() and word.isdigit()):
        raise argparse.ArgumentTypeError(f"'{word}' is not a whole number from 0 on")
    return int(word)


def predict(options: argparse.Namespace) -> None:
    from yourbert.answers import answer
    from yourbert.settings import Runtime

    runtime = Runtime(device=options.device, precision=options.precision, threads=options.threads, deterministic=False)
    answer(
        options.model,
        options.input,
        task_name=options.task,
        columns=options.columns,
        id_column=options.id,
        out=options.out,
        runtime=runtime,
    )


SUBSETS = """Adds a mixture for every two or more of the tasks to params.yaml, with the settings of another mixture.
`dvc repro` then trains those that are missing, and report/cost.md says what each task gains from which others."""


def add_subsets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="the tasks to combine; all where none is named")
    parser.add_argument("--like", metavar="MIXTURE", help="whose settings the new ones take; the first, by default")
    parser.set_defaults(command=subsets)


def subsets(options: argparse.Namespace) -> None:
    from yourbert import subsets

    new, there = subsets.add_subsets(options.tasks, options.like)
    for title, names in (("added to params.yaml", new), ("there already", there)):
        if names:
            sys.stdout.write(f"{title}: {', '.join(names)}\n")


if __name__ == "__main__":
    main()
