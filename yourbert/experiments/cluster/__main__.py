"""Run a sweep on a Ray cluster and collect it: `python -m yourbert.experiments.cluster run --set lr=1e-5,3e-5`.

Every combination of the settings becomes a DVC experiment of this repository. The same command again runs what is
missing.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from tabulate import tabulate

from yourbert.core.errors import exit_cleanly, fail
from yourbert.experiments.cluster.collect import collect
from yourbert.experiments.cluster.grid import Experiment, expand
from yourbert.experiments.cluster.node import Job, Outcome
from yourbert.experiments.cluster.repository import Scores, check_remote, finished, scores, starting_commit

LOGGER = logging.getLogger("yourbert")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def main() -> None:
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    exit_cleanly(partial(run, _options()))


def run(options: argparse.Namespace) -> None:
    """Runs what is missing of a sweep, shows all of it, and exits with 1 when part of it failed."""
    if not NAME.fullmatch(options.name):
        fail("P18", "letters, digits, - and _ may stand in a name", where=f"--name {options.name}")
    experiments = expand(options.name, options.settings, options.targets, options.cpus)
    if options.keep_models:
        check_remote(options.keep_models)
    start = starting_commit()
    here = finished(start)
    jobs = [
        Job(e.name, start, e.overrides, tuple(options.targets), options.keep_models)
        for e in experiments
        if e.name not in here
    ]
    LOGGER.info("%d of %d experiments to run, from commit %s", len(jobs), len(experiments), start[:7])
    resources = {"cpus": options.cpus, "gpus": options.gpus, "tries": options.tries}
    ran = collect(jobs, start, address=options.address, **resources) if jobs else ()
    outcomes = {outcome.name: outcome for outcome in ran}
    done = [e.name for e in experiments if e.name in finished(start)]
    found = scores(start, done, targets=bool(options.targets))
    sys.stdout.write(table(experiments, outcomes, found) + "\n")
    if len(done) < len(experiments):
        sys.exit(1)


def table(experiments: Sequence[Experiment], outcomes: Mapping[str, Outcome], found: Mapping[str, Scores]) -> str:
    """One line per experiment; a score is the run's overall one on dev, "kept" what an earlier sweep had done."""
    runs = sorted({run for own in found.values() for run in own})
    rows = []
    for e in experiments:
        outcome = outcomes.get(e.name)
        status = "failed" if e.name not in found else "done" if outcome else "kept"
        ran = [outcome.node or "-", f"{outcome.seconds:.0f}" if outcome.result else "-"] if outcome else ["-", "-"]
        own = found.get(e.name, {})
        cells = [f"{own[run]:.3f}" if run in own else "-" for run in runs]
        rows.append([e.name, " ".join(e.settings), *ran, status, *cells])
    return tabulate(rows, ["name", "settings", "node", "seconds", "status", *runs], "simple", disable_numparse=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m yourbert.experiments.cluster", description=__doc__)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("run", help="run what is missing of a sweep, and show it")
    one.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE,...")
    one.add_argument("--targets", nargs="+", default=[], metavar="STAGE", help="stages to run; all when absent")
    one.add_argument("--name", default="sweep", help="what the experiments' names begin with")
    one.add_argument("--address", default="auto", help="of a Ray cluster; auto: this machine's; local: one of its own")
    one.add_argument("--cpus", type=_count(1), default=1, help="processors of one experiment")
    one.add_argument("--gpus", type=_count(0), default=0, help="GPUs of one experiment")
    one.add_argument("--tries", type=_count(1), default=3, help="how often to try an experiment")
    one.add_argument("--keep-models", default="", metavar="REMOTE", help="push the models to this DVC remote")
    return parser.parse_args()


def _count(least: int) -> Callable[[str], int]:
    """Reads a whole number of at least `least`, for argparse."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least {least}")
        return int(text)

    return read


if __name__ == "__main__":
    main()
