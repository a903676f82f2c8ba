"""`yourbert init`: a task of your own, from its table."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HELP = "a task of your own, from its table"
DESCRIPTION = """Looks at the tables of a task and adds its block to params.yaml: which columns are texts, which is the
label, and what it may be. Every row is then checked as the pipeline will. The files belong into the corpus: data/, or
the folder that `corpus` in params.yaml names."""


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="of the task")
    parser.add_argument("train", type=Path)
    parser.add_argument("dev", type=Path)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--text", nargs="+", default=[], metavar="COLUMN", help="one, or the two of a pair")
    parser.add_argument("--label", metavar="COLUMN")
    parser.add_argument("--id", metavar="COLUMN", help="names each row")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    import yaml

    from yourbert.core.tasks import Split
    from yourbert.corpus.propose_task import propose

    given: dict[Split, Path | None] = {"train": options.train, "dev": options.dev, "test": options.test}
    files = {split: file for split, file in given.items() if file}
    block, reasons = propose(options.name, files, options.text, options.label, options.id)
    sys.stdout.write("".join(f"{reason}\n" for reason in reasons) + "\nadded to params.yaml, below tasks:\n\n")
    sys.stdout.write(yaml.safe_dump({options.name: {"data": block}}, sort_keys=False))
    folders = {file.resolve().parent for file in files.values()}
    if len(folders) == 1:
        sys.stdout.write(f"\nits files lie in {folders.pop()}: `dvc add data` if that is data/, else set `corpus`\n")
    sys.stdout.write(f"train it: dvc repro evaluate@{options.name}-11711\n")
