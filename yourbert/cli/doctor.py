"""`yourbert doctor`: find and mend what a kill left behind."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HELP = "find and mend what a kill left behind"
DESCRIPTION = """Looks for what a kill, a full disk or another hand left behind: files of DVC that are broken, objects
of its cache that were cut, model folders that are not as they were saved, unfinished files, folders of killed
experiments, other versions of packages than locked. With --fix what is broken is removed, so that `dvc repro` makes it
again; a broken dvc.lock is kept in .yourbert/doctor. Exit code 0 when nothing is left to do, 5 when something is: a
person has to look, or --fix was not given."""


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fix", action="store_true", help="mend it; refused while somebody works in the project")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    from yourbert.doctor.run import doctor

    sys.exit(doctor(Path.cwd(), options.fix))
