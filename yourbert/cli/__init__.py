"""The command `yourbert`: one file per subcommand (HELP, DESCRIPTION, `add` for its options, `run`), and `main`.

`completion` is defined here, because it needs the parser of all other commands.

A subcommand imports what it needs in `run`, so `--help` and a misspelled word are answered without loading torch. The
work is done in the packages below; a file here only reads options and makes one library call.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from yourbert.cli import (
    add_mixtures,
    compare,
    doctor,
    explain,
    export,
    init,
    localize_skills,
    offline_plots,
    predict,
    search,
    serve,
)
from yourbert.core.errors import CommandLine, exit_cleanly, fail
from yourbert.core.program import start

BROKEN_PIPE = 128 + 13  # the shell's exit code for a program ended by SIGPIPE
MODULES = (
    init, add_mixtures, predict, explain, serve, export, compare, search, localize_skills, doctor, offline_plots,
)  # fmt: skip
COMMANDS = {module.__name__.rpartition(".")[2].replace("_", "-"): module for module in MODULES}
# Commands and options that 0.2.0 renamed -> what to write now.
RENAMED = {
    "skills": "localize-skills",
    "subsets": "add-mixtures",
    "search --keep": "search --reduction-factor N (N = 1 / SHARE)",
    "compare --gate": "compare --fail-on-regression",
    **{f"{command} --threads": f"{command} --num-threads N" for command in ("predict", "explain", "serve")},
}
COMPLETION = """Prints the completion script of `yourbert` for a shell: put `eval "$(yourbert completion bash)"` into
~/.bashrc, or `eval "$(yourbert completion zsh)"` into ~/.zshrc after compinit. DVC has its own: `dvc completion`."""


def main() -> NoReturn:
    """The console script: runs one subcommand; a UserError becomes one line on stderr and an exit code."""
    start()
    exit_cleanly(run)


def run() -> None:
    refuse_renamed(sys.argv[1:])
    options = command_line().parse_args()
    try:
        options.command(options)
    except BrokenPipeError:
        # The reader of the output has closed it, which is not an error. The rest of the buffer is discarded silently.
        if sys.stdout:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)


def refuse_renamed(words: Sequence[str]) -> None:
    """Raises UserError (P05) that gives the new spelling of a renamed command or option."""
    command = words[0] if words else ""
    # Before argparse, which would read `--keep` as an abbreviation of `--keep-models`.
    for old in (command, *(f"{command} {word.partition('=')[0]}" for word in words[1:])):
        if old in RENAMED:
            fail("P05", f"`{old}` was renamed in 0.2.0", where="yourbert", fix=f"write `yourbert {RENAMED[old]}`")


class Version(argparse.Action):
    """Prints the version of the installed package and exits; reads the metadata only when asked."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        sys.stdout.write(f"{parser.prog} {importlib.metadata.version('yourbert')}\n")
        sys.exit()


def command_line() -> CommandLine:
    """The parser of all subcommands; each sets `command`, the function to call with the options."""
    parser = CommandLine(prog="yourbert", description="Use a fine-tuned model, or change what is trained.")
    parser.add_argument("--version", action=Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        command.add(commands.add_parser(name, help=command.HELP, description=command.DESCRIPTION))
    completion = commands.add_parser("completion", help="print a shell completion script", description=COMPLETION)
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    completion.set_defaults(command=lambda options: complete(parser, options))
    return parser


def complete(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    import shtab

    sys.stdout.write(shtab.complete(parser, options.shell) + "\n")
