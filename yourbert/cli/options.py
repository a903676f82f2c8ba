"""The options that say what to compute with, as the keys of the same names in params.yaml."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from yourbert.config.schema import Runtime


def add_runtime(parser: argparse.ArgumentParser, precision: bool = True) -> None:
    """precision: whether there is a choice; else it is fp32."""
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    if precision:
        parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="auto: the fastest")
    else:
        parser.set_defaults(precision="fp32")
    parser.add_argument(
        "--threads", type=at_least(0), default=0, metavar="N", help="0, the default: one per physical core"
    )


def at_least(least: int) -> Callable[[str], int]:
    """Reads a whole number of at least `least`."""

    def read(word: str) -> int:
        if not (word.isascii() and word.isdigit()) or int(word) < least:
            raise argparse.ArgumentTypeError(f"'{word}' is not a whole number from {least} on")
        return int(word)

    return read


def runtime_of(options: argparse.Namespace) -> Runtime:
    from yourbert.config.schema import Runtime

    return Runtime(device=options.device, precision=options.precision, num_threads=options.threads, deterministic=False)
