"""Looks a project over and, if asked, mends what it can; never while somebody works in it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from yourbert.core.errors import EXIT_CODES, fail
from yourbert.doctor.leftovers import leftover_troubles
from yourbert.doctor.objects import object_troubles
from yourbert.doctor.owner import owners
from yourbert.doctor.state import state_troubles
from yourbert.doctor.trouble import Trouble
from yourbert.doctor.versions import version_troubles


def troubles(root: Path) -> Iterator[Trouble]:
    """All that is wrong, what DVC cannot start without first."""
    yield from state_troubles(root)
    yield from object_troubles(root)
    yield from leftover_troubles(root)
    yield from version_troubles(root)


def _mended(trouble: Trouble) -> bool:
    """Mends it, if that can be done without a person, and says how that ended."""
    if trouble.mend is None:
        return False
    try:
        trouble.mend()
    except OSError as error:
        sys.stdout.write(f"  not done: {error}\n")
        return False
    sys.stdout.write("  done\n")
    return True


def doctor(root: Path, fix: bool) -> int:
    """Prints a line for each trouble and what was done; the exit code: 0 when nothing is left to do.

    Raises UserError (P15) outside a project, B10 when something is to be mended while somebody works there.
    """
    if not (root / ".dvc").is_dir():
        fail("P15", "no .dvc folder here", where=str(root), fix="run it in the folder of the project")
    busy = owners(root)
    if busy and fix:
        fail("B10", f"{busy[0]} works here", where=str(root), fix="wait for it, or end it; then ask again")
    for one in busy:
        sys.stdout.write(f"{one} works here: what it is writing may look broken\n")
    left = False
    found = 0
    for trouble in troubles(root):
        found += 1
        sys.stdout.write(f"{trouble}\n")
        left = not (fix and _mended(trouble)) or left
    if not found:
        sys.stdout.write("nothing is wrong here\n")
    elif left and not fix:
        sys.stdout.write("`yourbert doctor --fix` does what it can of this\n")
    return EXIT_CODES["V"] if left else 0
