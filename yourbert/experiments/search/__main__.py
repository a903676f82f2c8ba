"""Search for parameters: `python -m yourbert.experiments.search --set lr=3e-5,1e-4,3e-4 --budget epochs=1,3 --run sst`.

Every candidate becomes a DVC experiment of this repository, run by DVC's queue or, with --ray, on a Ray cluster. With a
budget the weak ones end after the first rungs. The same command again runs what is missing.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import fmean

from tabulate import tabulate

from yourbert.config.params import places_of, read_params
from yourbert.config.schema import Params, Training
from yourbert.core.cost import JOULES_A_KWH, Cost
from yourbert.core.errors import exit_cleanly, fail, nearest
from yourbert.core.storage import write_csv
from yourbert.experiments.cluster.collect import collect
from yourbert.experiments.cluster.grid import Experiment
from yourbert.experiments.cluster.node import Job
from yourbert.experiments.cluster.repository import finished, scores, starting_commit
from yourbert.experiments.search.chart import draw
from yourbert.experiments.search.cost import Try, costs
from yourbert.experiments.search.halving import Space
from yourbert.experiments.search.queue import run_in_queue

LOGGER = logging.getLogger("yourbert")
LINES = ("rung", "budget", "name", "settings", "score", "seconds", "kwh")
Candidate = tuple[str, ...]
TRIES = 3  # of an experiment, on a Ray cluster


def main() -> None:
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    exit_cleanly(partial(search, _options()))


def search(options: argparse.Namespace) -> None:
    """Runs the rungs, writes the table, and says what won and what it all cost."""
    space = _space(options)
    check_reach(space.keys(), options.run, read_params())
    start = starting_commit()
    candidates, tries = space.first(), list[Try]()
    for rung, budget in enumerate(space.budgets()):
        experiments = {candidate: space.experiment(candidate, budget) for candidate in candidates}
        here = finished(start)
        _run([e for e in experiments.values() if e.name not in here], start, options)
        found = _scores(start, experiments, options)
        tries += _tries(start, rung, budget, experiments, found)
        if not found:
            fail("X25", f"no experiment of rung {rung + 1} has a score", fix="see `dvc queue status`, `dvc queue logs`")
        candidates = space.promoted(found)
    write_csv(options.out, LINES, map(_line, tries))
    draw(tries, options.out.with_suffix(".svg"))
    best = experiments[max(found, key=lambda candidate: found[candidate])]
    _tell(tries, best, options)


def check_reach(keys: Sequence[str], run: str, params: Params) -> None:
    """Raises UserError (P05, P18) for a run that does not exist, or that does not read a key because it has its own."""
    if not run:
        return
    places = dict(places_of(params))
    if run not in places:
        known = ", ".join(places)
        fail("P05", f"no model '{run}' (there are {known}){nearest(run, places)}", where="--run")
    for key in keys:
        if key in Training.model_fields and key in params.overrides(run):
            own = f"{places[run]}.{key}"
            fail("P18", f"{own} in params.yaml holds for '{run}', whatever `{key}` is", where=key, fix=f"vary {own}")


def _space(options: argparse.Namespace) -> Space:
    return Space(
        name=options.name,
        settings=tuple(options.settings),
        targets=tuple(options.targets),
        cpus=options.cpus,
        drawn=options.random,
        seed=options.seed,
        budget=options.budget,
        keep=options.keep,
    )


def _run(experiments: Sequence[Experiment], start: str, options: argparse.Namespace) -> None:
    if not experiments:
        return
    LOGGER.info("%d experiments to run, from commit %s", len(experiments), start[:7])
    if options.ray:
        jobs = [Job(e.name, start, e.overrides, tuple(options.targets), "") for e in experiments]
        list(collect(jobs, start, address=options.ray, cpus=options.cpus, gpus=options.gpus, tries=TRIES))
        return
    for number, (name, succeeded) in enumerate(run_in_queue(experiments, options.targets, options.jobs), start=1):
        LOGGER.info("%d/%d %s: %s", number, len(experiments), name, "done" if succeeded else "failed")


def _scores(
    start: str, experiments: dict[Candidate, Experiment], options: argparse.Namespace
) -> dict[Candidate, float]:
    """Candidate -> the mean over seeds of the overall dev score of the run that is asked for, or of all runs."""
    done = finished(start)
    names = [e.name for e in experiments.values() if e.name in done]
    told = scores(start, names, targets=bool(options.targets))
    found = {}
    for candidate, experiment in experiments.items():
        own = told.get(experiment.name, {})
        values = [value for run, value in own.items() if options.run in ("", run.partition("/")[0])]
        if values:
            found[candidate] = fmean(values)
    return found


def _tries(
    start: str,
    rung: int,
    budget: str,
    experiments: dict[Candidate, Experiment],
    found: dict[Candidate, float],
) -> list[Try]:
    """The experiments of a rung, best first."""
    paid = costs(start, [experiments[candidate].name for candidate in found])
    best_first = sorted(experiments.items(), key=lambda pair: -found.get(pair[0], -1.0))
    return [
        Try(rung + 1, budget, e.name, " ".join(candidate), found.get(candidate), paid.get(e.name, Cost()))
        for candidate, e in best_first
    ]


def _line(one: Try) -> tuple[object, ...]:
    score = "failed" if one.score is None else f"{one.score:.5f}"
    bill = (f"{one.cost.seconds:.0f}", f"{one.cost.joules / JOULES_A_KWH:.9f}")
    return (one.rung, one.budget, one.name, one.settings, score, *bill)


def _tell(tries: Sequence[Try], best: Experiment, options: argparse.Namespace) -> None:
    sys.stdout.write(tabulate(map(_line, tries), LINES, "simple", disable_numparse=True) + "\n\n")
    cost = sum((one.cost for one in tries), start=Cost())
    kwh = cost.joules / JOULES_A_KWH
    sys.stdout.write(f"best: {' '.join(best.settings)}\n")
    sys.stdout.write(f"cost: {len(tries)} experiments, {cost.seconds:,.0f} s of training, {kwh:.4f} kWh\n")
    sys.stdout.write(f"table: {options.out}, drawn in {options.out.with_suffix('.svg')}\n")
    sys.stdout.write(f"`dvc exp apply {best.name}` puts the best into the workspace\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m yourbert.experiments.search", description=__doc__)
    add = parser.add_argument
    add("--set", dest="settings", action="append", required=True, metavar="KEY=VALUE,...", help="what to vary")
    add("--random", type=int, default=0, metavar="N", help="draw N of the combinations instead of trying all")
    add("--seed", type=int, default=0, help="of that draw")
    add("--budget", default="", metavar="KEY=VALUE,...", help="rungs, smallest first, for instance epochs=1,3")
    add("--keep", type=float, default=1 / 3, metavar="SHARE", help="of a rung that goes on to the next (a third)")
    add("--run", default="", help="the task or mixture whose overall dev score decides; all that ran, by default")
    add("--targets", nargs="+", default=[], metavar="STAGE", help="stages to run; all when absent")
    add("--name", default="search", help="what the experiments' names begin with")
    add("--jobs", type=int, default=1, metavar="N", help="experiments at a time in DVC's queue")
    add("--cpus", type=int, default=1, help="processors of one experiment")
    add("--gpus", type=int, default=0, help="GPUs of one experiment, with --ray")
    add("--ray", default="", metavar="ADDRESS", help="run on a Ray cluster: auto, local, or its address")
    add("--out", type=Path, default=Path("report/search.csv"), help="the table as csv")
    return parser.parse_args()


if __name__ == "__main__":
    main()
