"""Checks a project and, if asked, repairs it; never while another process uses it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from yourbert.core.errors import EXIT_CODES, fail
from yourbert.doctor.leftovers import leftover_troubles, pipe_troubles
from yourbert.doctor.objects import object_troubles
from yourbert.doctor.owner import owners
from yourbert.doctor.state import state_troubles
from yourbert.doctor.trouble import Trouble
from yourbert.doctor.versions import version_troubles


def troubles(root: Path) -> Iterator[Trouble]:
    """All problems; first those that keep DVC from starting."""
    yield from state_troubles(root)
    yield from object_troubles(root)
    yield from leftover_troubles(root)
    yield from pipe_troubles(root)
    yield from version_troubles(root)


def _repaired(trouble: Trouble) -> bool:
    """Repairs the problem if that needs no decision; prints the outcome and returns whether it worked."""
    if trouble.repair is None:
        return False
    try:
        trouble.repair()
    except OSError as error:
        sys.stdout.write(f"  not done: {error}\n")
        return False
    sys.stdout.write("  done\n")
    return True


def doctor(root: Path, fix: bool) -> int:
    """Prints a line per problem and what was done; returns the exit code, 0 if no problem is left.

    Raises UserError (P15) outside a project, B10 for a repair while another process uses the project.
    """
    if not (root / ".dvc").is_dir():
        fail("P15", "no .dvc folder here", where=str(root), fix="run it in the folder of the project")
    busy = owners(root)
    if busy and fix:
        fail("B10", f"{busy[0]} is using this project", where=str(root), fix="wait for it or stop it, then try again")
    for one in busy:
        sys.stdout.write(f"{one} is using this project; files that it is writing may look corrupt\n")
    left = False
    found = 0
    for trouble in troubles(root):
        found += 1
        sys.stdout.write(f"{trouble}\n")
        left = not (fix and _repaired(trouble)) or left
    if not found:
        sys.stdout.write("no problems found\n")
    elif left and not fix:
        sys.stdout.write("`yourbert doctor --fix` repairs what needs no decision\n")
    return EXIT_CODES["V"] if left else 0
