"""Options for device, precision and threads, as `device`, `precision` and `num_threads` in params.yaml."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from yourbert.config.schema import Runtime


def add_runtime(parser: argparse.ArgumentParser, precision: bool = True) -> None:
    """Adds the options. precision: whether it can be chosen; else it is fp32."""
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    if precision:
        parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="auto: the fastest")
    else:
        parser.set_defaults(precision="fp32")
    parser.add_argument(
        "--num-threads", type=at_least(0), default=0, metavar="N", help="CPU threads; default: one per physical core"
    )


def at_least(least: int) -> Callable[[str], int]:
    """An argparse type: a whole number that is `least` or more."""

    def read(word: str) -> int:
        if not (word.isascii() and word.isdigit()) or int(word) < least:
            raise argparse.ArgumentTypeError(f"'{word}' is not a whole number >= {least}")
        return int(word)

    return read


def runtime_of(options: argparse.Namespace) -> Runtime:
    from yourbert.config.schema import Runtime

    return Runtime(
        device=options.device, precision=options.precision, num_threads=options.num_threads, deterministic=False
    )
