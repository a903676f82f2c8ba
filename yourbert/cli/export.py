"""`yourbert export`: convert a model for another library."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HELP = "convert a model for another library"
DESCRIPTION = """Writes a model in the format of another library, with a model card: one task for transformers
(AutoModelForSequenceClassification) or sentence-transformers, or all tasks as ONNX."""


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="a model folder, for instance build/models/sst/11711")
    parser.add_argument("out", type=Path, help="the folder to write; it must not exist or be empty")
    parser.add_argument("--to", choices=("transformers", "sentence-transformers", "onnx"), required=True)
    parser.add_argument("--task", help="the task to export, if the model has several")
    parser.add_argument("--int8", action="store_true", help="ONNX only: 8-bit weights and word embeddings")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    from yourbert.config.schema import Runtime
    from yourbert.deploy.batch import prepare_for_cli
    from yourbert.deploy.export.export import export

    machine = prepare_for_cli(Runtime(device="cpu", precision="fp32", num_threads=0, deterministic=False))
    arguments = (options.model, options.out, options.to, options.task, options.int8)
    export(*arguments, machine, Path("metrics"), Path("build/tokens"))
    sys.stderr.write(f"{options.out}: see README.md in it for how to use it\n")
