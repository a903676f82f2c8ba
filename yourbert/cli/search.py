"""`yourbert search`: tune parameters with DVC experiments, in DVC's queue or on a cluster."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from yourbert.cli.options import at_least

HELP = "tune parameters by grid, random search or successive halving"
DESCRIPTION = """Runs a DVC experiment for every combination of the settings, in DVC's queue or, with --ray, on a Ray
cluster. With --budget, successive halving stops weak candidates after the first rungs; without it, the search is a
plain grid. Running the same command again runs only what is missing. Exit code 1: some experiments failed."""


def add(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    option("--set", dest="settings", action="append", required=True, metavar="KEY=VALUE,...", help="values to try")
    option("--random", type=at_least(0), default=0, metavar="N", help="try N random combinations instead of all")
    option("--seed", type=at_least(0), default=0, help="seed of --random")
    option("--budget", default="", metavar="KEY=VALUE,...", help="rungs, smallest first, e.g. epochs=1,3")
    option("--reduction-factor", type=at_least(2), default=3, metavar="N", help="promote 1/N of each rung (default: 3)")
    option("--run", default="", help="rank by the dev score of this model (default: the mean of all)")
    option("--targets", nargs="+", default=[], metavar="STAGE", help="stages to run (default: all)")
    option("--name", default="search", help="prefix of the experiments' names")
    option("--jobs", type=at_least(1), default=1, metavar="N", help="experiments at a time in DVC's queue")
    option("--cpus", type=at_least(1), default=1, help="CPUs of one experiment")
    option("--ray", default="", metavar="ADDRESS", help="a Ray cluster; auto: this machine's; local: start one")
    option("--gpus", type=at_least(0), default=0, help="with --ray: GPUs of one experiment")
    option("--tries", type=at_least(1), default=3, help="with --ray: attempts per experiment")
    option("--keep-models", default="", metavar="REMOTE", help="with --ray: push the models to this DVC remote")
    option("--out", type=Path, default=Path("report/search.csv"), help="the results as csv")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    from yourbert.experiments.search.halving import SearchSpace
    from yourbert.experiments.search.search import Backend, search, summary

    space = SearchSpace(
        name=options.name,
        settings=tuple(options.settings),
        targets=tuple(options.targets),
        cpus=options.cpus,
        num_samples=options.random,
        seed=options.seed,
        budget=options.budget,
        reduction_factor=options.reduction_factor,
    )
    backend = Backend(
        jobs=options.jobs,
        ray=options.ray,
        gpus=options.gpus,
        max_attempts=options.tries,
        models_remote=options.keep_models,
    )
    result = search(space, options.run, backend, options.out)
    sys.stdout.write(summary(result, options.out))
    sys.exit(0 if result.complete else 1)
