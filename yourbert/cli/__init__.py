"""The command `yourbert`: one file per subcommand (HELP, DESCRIPTION, `add` its options, `run` it), and `main`.

`completion` is here, as it prints what a shell needs to know of all the others.

A subcommand imports what it needs when it is run, so that `--help` and a wrong word are answered at once, without
torch. What a command does lives in the packages below; a file here only reads options and makes one library call.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import NoReturn

from yourbert.cli import compare, doctor, explain, export, init, offline_plots, predict, search, serve, skills, subsets
from yourbert.core.errors import CommandLine, exit_cleanly
from yourbert.core.program import start

BROKEN_PIPE = 128 + 13  # what the shell says of a program that SIGPIPE ended
COMMANDS = {
    "init": init,
    "subsets": subsets,
    "predict": predict,
    "explain": explain,
    "serve": serve,
    "export": export,
    "compare": compare,
    "search": search,
    "skills": skills,
    "doctor": doctor,
    "offline-plots": offline_plots,
}
COMPLETION = """Prints the completion of `yourbert` for a shell: put `eval "$(yourbert completion bash)"` into
~/.bashrc, or `eval "$(yourbert completion zsh)"` into ~/.zshrc behind compinit. DVC has its own: `dvc completion`."""


def main() -> NoReturn:
    """The console script: runs the command that the words name; a user's mistake is one line and an exit code."""
    start()
    exit_cleanly(run)


def run() -> None:
    options = command_line().parse_args()
    try:
        options.command(options)
    except BrokenPipeError:
        # Who read the output has gone, which is no mistake. What is still in the buffer goes nowhere, silently.
        if sys.stdout:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)


def command_line() -> CommandLine:
    parser = CommandLine(prog="yourbert", description="Use a tailored model, or change what is tailored.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        command.add(commands.add_parser(name, help=command.HELP, description=command.DESCRIPTION))
    completion = commands.add_parser(
        "completion", help="what your shell needs to complete these words", description=COMPLETION
    )
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    completion.set_defaults(command=lambda options: complete(parser, options))
    return parser


def complete(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    import shtab

    sys.stdout.write(shtab.complete(parser, options.shell) + "\n")
