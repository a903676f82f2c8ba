"""`yourbert predict`: answers every row of a file."""

from __future__ import annotations

import argparse
from pathlib import Path

from yourbert.cli.options import add_runtime, runtime_of

HELP = "answer every row of a file"
DESCRIPTION = """Answers every row of a table (.csv, .tsv, .jsonl, .parquet; .gz too) or every line of a text (.txt, or
- for the standard input; of a pair task, two texts with a tab between them), in order: id, prediction, and the
probability of each class."""


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="a model folder, for instance build/models/sst/11711")
    parser.add_argument("input", help="a table or text file, or -")
    parser.add_argument("--task", help="which task of a model that has several")
    parser.add_argument("--columns", nargs="+", default=[], metavar="NAME", help="where a table has its texts")
    parser.add_argument("--id", metavar="NAME", help="where a table has its ids; else rows are counted from 0")
    parser.add_argument("--out", type=Path, metavar="FILE", help=".csv, .tsv or .jsonl; else csv to standard output")
    add_runtime(parser)
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    from yourbert.deploy.batch import batch_predict

    batch_predict(
        options.model,
        options.input,
        task_name=options.task,
        columns=options.columns,
        id_column=options.id,
        out=options.out,
        runtime=runtime_of(options),
    )
