"""`yourbert completion`: what a shell needs to complete its commands and options."""

from __future__ import annotations

import argparse
import sys

HELP = "what your shell needs to complete these words"
DESCRIPTION = """Prints the completion of `yourbert` for a shell: put `eval "$(yourbert completion bash)"` into
~/.bashrc, or `eval "$(yourbert completion zsh)"` into ~/.zshrc behind compinit. DVC has its own: `dvc completion`."""


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    import shtab

    sys.stdout.write(shtab.complete(options.whole, options.shell) + "\n")
