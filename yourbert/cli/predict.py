"""`yourbert predict`: predict every row of a file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from yourbert.cli.options import add_runtime, runtime_of
from yourbert.core.tasks import Quoting

HELP = "predict every row of a file"
DESCRIPTION = """Predicts every row of a table (.csv, .tsv, .jsonl, .parquet; optionally .gz) or every line of a text
file (.txt, or - for standard input; for a pair task, two texts separated by a tab). Writes id, prediction and the
probability of each class, in the order of the input."""


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="a model folder, for instance build/models/sst/11711")
    parser.add_argument("input", help="a table or text file, or -")
    parser.add_argument("--task", help="the task to use, if the model has several")
    parser.add_argument("--columns", nargs="+", default=[], metavar="NAME", help="the text columns of a table")
    parser.add_argument("--id", metavar="NAME", help="the id column of a table; without one, rows are numbered from 0")
    parser.add_argument("--quoting", choices=get_args(Quoting), help="none: quotes are characters; default: the task's")
    parser.add_argument("--out", type=Path, metavar="FILE", help=".csv, .tsv or .jsonl; default: csv to stdout")
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
        quoting=options.quoting,
    )
