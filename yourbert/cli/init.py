"""`yourbert init`: add a task from its data files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from yourbert.core.tasks import Kind, Metric, PairEncoding, Quoting

HELP = "add a task from its data files"
DESCRIPTION = """Reads the data files of a task and adds its block to params.yaml: the text columns, the label column
and the labels. Then it checks every row as the pipeline does. An option replaces a guess. The files belong in the
corpus: data/, or the folder that `corpus` in params.yaml names."""
BASE = Path("build/base")


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="the name of the task")
    parser.add_argument("train", type=Path)
    parser.add_argument("dev", type=Path)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--text", nargs="+", default=[], metavar="COLUMN", help="the text column, or the two of a pair")
    parser.add_argument("--label", metavar="COLUMN")
    parser.add_argument("--id", metavar="COLUMN", help="the column of row ids, or `none`")
    parser.add_argument("--kind", choices=get_args(Kind))
    parser.add_argument("--labels", nargs="+", default=[], metavar="LABEL", help="all classes, in their order")
    parser.add_argument("--range", nargs=2, type=float, metavar=("LOW", "HIGH"), help="the scale of a similarity")
    parser.add_argument("--encoding", choices=get_args(PairEncoding), help="encode a pair as one input, or as two")
    parser.add_argument("--max-length", type=int, metavar="N", help="maximum number of tokens of an input")
    parser.add_argument("--metric", choices=get_args(Metric))
    parser.add_argument("--on-invalid-row", choices=("error", "drop"))
    parser.add_argument("--quoting", choices=get_args(Quoting), default="standard", help="none: quotes are characters")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    import yaml

    from yourbert.config.params import read_params
    from yourbert.core.tasks import Split
    from yourbert.corpus.propose_task import Choices, propose_task

    paths: dict[Split, Path | None] = {"train": options.train, "dev": options.dev, "test": options.test}
    files = {split: file for split, file in paths.items() if file}
    choices = Choices(
        text=options.text, label=options.label, row_id=options.id, kind=options.kind, labels=options.labels,
        limits=options.range and tuple(options.range), encoding=options.encoding, max_length=options.max_length,
        metric=options.metric, on_invalid_row=options.on_invalid_row, quoting=options.quoting,
    )  # fmt: skip
    block, reasons = propose_task(options.name, files, choices, count_tokens=_counter())
    sys.stdout.write("".join(f"{reason}\n" for reason in reasons) + "\nadded to params.yaml, below tasks:\n\n")
    sys.stdout.write(yaml.safe_dump({options.name: {"data": block}}, sort_keys=False, allow_unicode=True))
    folder = options.train.resolve().parent
    sys.stdout.write(f"\nits files are in {folder}: `dvc add data` if that is data/, else set `corpus`\n")
    sys.stdout.write(f"train it: dvc repro evaluate@{options.name}-{read_params().seeds[0]}\n")


def _counter() -> Callable[[Sequence[str]], list[int]] | None:
    """Counts tokens with the tokenizer of the downloaded model; None before `dvc repro download`."""
    from yourbert.tokens.tokenizer import Tokenizer

    if not (BASE / "vocab.txt").is_file():
        return None
    tokenizer = Tokenizer.load(BASE)
    return lambda texts: [len(ids) for ids in tokenizer.word_piece_ids(texts)]
