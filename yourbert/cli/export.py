"""`yourbert export`: a model for another library."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HELP = "a model for another library"
DESCRIPTION = """Writes a model in the form of another library, with a page about it: one task for transformers
(AutoModelForSequenceClassification) or sentence-transformers, or all tasks of it as ONNX."""


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="a model folder, for instance build/models/sst/11711")
    parser.add_argument("out", type=Path, help="a new folder, which is written")
    parser.add_argument("--to", choices=("transformers", "sentence-transformers", "onnx"), required=True)
    parser.add_argument("--task", help="which task of a model that has several")
    parser.add_argument("--int8", action="store_true", help="of ONNX: products in 8-bit numbers, a quarter of the size")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    from yourbert.config.schema import Runtime
    from yourbert.deploy.batch import prepared
    from yourbert.deploy.export.export import export

    machine = prepared(Runtime(device="cpu", precision="fp32", num_threads=0, deterministic=False))
    given = (options.model, options.out, options.to, options.task, options.int8)
    export(*given, machine, Path("metrics"), Path("build/tokens"))
    sys.stderr.write(f"{options.out}: README.md says how to use it\n")
