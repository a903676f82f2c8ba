"""`yourbert search`: parameters tried as DVC experiments, in DVC's queue or on a cluster."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from yourbert.cli.options import at_least

HELP = "try parameters, ending weak candidates early"
DESCRIPTION = """Every combination of the settings becomes a DVC experiment of this repository, run by DVC's queue or,
with --ray, on a Ray cluster. With --budget the weak candidates end after the first rungs; without it the search is a
plain grid. The same command again runs what is missing. Exit code 1 when some experiments failed."""


def add(parser: argparse.ArgumentParser) -> None:
    one = parser.add_argument
    one("--set", dest="settings", action="append", required=True, metavar="KEY=VALUE,...", help="what to vary")
    one("--random", type=at_least(0), default=0, metavar="N", help="draw N of the combinations instead of trying all")
    one("--seed", type=at_least(0), default=0, help="of that draw")
    one("--budget", default="", metavar="KEY=VALUE,...", help="rungs, smallest first, for instance epochs=1,3")
    one("--keep", type=float, default=1 / 3, metavar="SHARE", help="of a rung that goes on to the next (a third)")
    one("--run", default="", help="the model whose dev score decides (default: the mean of all)")
    one("--targets", nargs="+", default=[], metavar="STAGE", help="stages to run; all when absent")
    one("--name", default="search", help="what the experiments' names begin with")
    one("--jobs", type=at_least(1), default=1, metavar="N", help="experiments at a time in DVC's queue")
    one("--cpus", type=at_least(1), default=1, help="processors of one experiment")
    one("--ray", default="", metavar="ADDRESS", help="of a Ray cluster; auto: this machine's; local: one of its own")
    one("--gpus", type=at_least(0), default=0, help="with --ray: GPUs of one experiment")
    one("--tries", type=at_least(1), default=3, help="with --ray: how often to try an experiment")
    one("--keep-models", default="", metavar="REMOTE", help="with --ray: push the models to this DVC remote")
    one("--out", type=Path, default=Path("report/search.csv"), help="the table as csv")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    from yourbert.experiments.search.halving import Space
    from yourbert.experiments.search.search import Place, search, summary

    space = Space(
        name=options.name,
        settings=tuple(options.settings),
        targets=tuple(options.targets),
        cpus=options.cpus,
        drawn=options.random,
        seed=options.seed,
        budget=options.budget,
        keep=options.keep,
    )
    place = Place(
        jobs=options.jobs, ray=options.ray, gpus=options.gpus, tries=options.tries, keep_models=options.keep_models
    )
    found = search(space, options.run, place, options.out)
    sys.stdout.write(summary(found, options.out))
    sys.exit(0 if found.complete else 1)
