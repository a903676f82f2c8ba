"""`yourbert init`: add a task from its data files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HELP = "add a task from its data files"
DESCRIPTION = """Reads the data files of a task and adds its block to params.yaml: the text columns, the label column
and the labels. Then it checks every row as the pipeline does. The files belong in the corpus: data/, or the folder that
`corpus` in params.yaml names."""


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="the name of the task")
    parser.add_argument("train", type=Path)
    parser.add_argument("dev", type=Path)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--text", nargs="+", default=[], metavar="COLUMN", help="the text column, or the two of a pair")
    parser.add_argument("--label", metavar="COLUMN")
    parser.add_argument("--id", metavar="COLUMN", help="the column of row ids")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    import yaml

    from yourbert.core.tasks import Split
    from yourbert.corpus.propose_task import propose_task

    paths: dict[Split, Path | None] = {"train": options.train, "dev": options.dev, "test": options.test}
    files = {split: file for split, file in paths.items() if file}
    block, reasons = propose_task(options.name, files, options.text, options.label, options.id)
    sys.stdout.write("".join(f"{reason}\n" for reason in reasons) + "\nadded to params.yaml, below tasks:\n\n")
    sys.stdout.write(yaml.safe_dump({options.name: {"data": block}}, sort_keys=False))
    folders = {file.resolve().parent for file in files.values()}
    if len(folders) == 1:
        sys.stdout.write(f"\nits files are in {folders.pop()}: `dvc add data` if that is data/, else set `corpus`\n")
    sys.stdout.write(f"train it: dvc repro evaluate@{options.name}-11711\n")
