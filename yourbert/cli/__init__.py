"""The command `yourbert`: one file per subcommand (HELP, DESCRIPTION, `add` its options, `run` it), and `main`.

A subcommand imports what it needs when it is run, so that `--help` and a wrong word are answered at once, without
torch. What a command does lives in the packages below; a file here only reads options and makes one library call.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from yourbert.cli import (
    compare,
    completion,
    doctor,
    explain,
    export,
    init,
    offline_plots,
    predict,
    serve,
    skills,
    subsets,
)
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
    "skills": skills,
    "doctor": doctor,
    "offline-plots": offline_plots,
    "completion": completion,
}


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
    parser.set_defaults(whole=parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        command.add(commands.add_parser(name, help=command.HELP, description=command.DESCRIPTION))
    return parser


if __name__ == "__main__":
    main()
