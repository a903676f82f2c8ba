"""`yourbert doctor`: find and repair what a killed process left behind."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HELP = "find and repair what a killed process left behind"
DESCRIPTION = """Looks for damage from a killed process, a full disk or a manual edit: broken DVC files, truncated
objects in DVC's cache, model folders that differ from their manifest, unfinished files, folders of killed experiments,
package versions that differ from the lock file. With --fix it deletes what is broken, so that `dvc repro` makes it
again; a broken dvc.lock is kept in .yourbert/doctor. Exit code 0: nothing is left to do. Exit code 5: work is left,
for a person or for --fix."""


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fix", action="store_true", help="repair it; refused while another process uses the project")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    from yourbert.doctor.run import doctor

    sys.exit(doctor(Path.cwd(), options.fix))
