"""A search for parameters: candidates become DVC experiments, rung by rung; out come a table, a chart and the best.

The experiments run in DVC's queue, or on a Ray cluster. With a budget the weak candidates end after the first rungs;
without one the search is a plain grid. What a search finds already there is not run again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from tabulate import tabulate

from yourbert.config.params import places_of, read_params
from yourbert.config.schema import Params, Training
from yourbert.core.cost import JOULES_A_KWH, Cost
from yourbert.core.errors import fail, nearest
from yourbert.core.storage import write_csv
from yourbert.experiments.cluster.node import Job
from yourbert.experiments.cluster.repository import check_remote, finished, scores, starting_commit
from yourbert.experiments.cluster.sweep import LOGS, collect
from yourbert.experiments.search.chart import draw
from yourbert.experiments.search.cost import Try, costs
from yourbert.experiments.search.grid import Experiment
from yourbert.experiments.search.halving import Space
from yourbert.experiments.search.queue import run_in_queue

LOGGER = logging.getLogger("yourbert")
LINES = ("rung", "budget", "name", "settings", "score", "seconds", "kwh")
Candidate = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where experiments run: in DVC's queue, `jobs` at a time, or on the Ray cluster whose address is `ray`.

    gpus: of one experiment; tries: how often it is begun; keep_models: the DVC remote that its models go to, "" for
    none. These three count on a cluster alone.
    """

    jobs: int = 1
    ray: str = ""
    gpus: int = 0
    tries: int = 3
    keep_models: str = ""


@dataclass(frozen=True)
class Found:
    """What a search ran, rung by rung, best first, and the best experiment of the last rung."""

    tries: list[Try]
    best: Experiment

    @property
    def complete(self) -> bool:
        return all(one.score is not None for one in self.tries)


def search(space: Space, run: str, place: Place, out: Path) -> Found:
    """Runs the rungs and writes the table `out`, with its chart beside it.

    run: the model whose overall dev score decides, "" for the mean of all. Raises UserError for what cannot be run,
    before anything is; X25 where all experiments of a rung failed.
    """
    check_reach(space.keys(), run, read_params())
    if place.keep_models:
        check_remote(place.keep_models)
    candidates, tries = space.first(), list[Try]()
    for budget in space.budgets():
        space.experiment(candidates[0], budget)  # so that a later rung's mistake is told now
    start = starting_commit()
    for rung, budget in enumerate(space.budgets(), start=1):
        experiments = {candidate: space.experiment(candidate, budget) for candidate in candidates}
        here = finished(start)
        _run([e for e in experiments.values() if e.name not in here], start, space, place)
        found = _scores(start, experiments, space, run)
        tries += _tries(start, rung, budget, experiments, found)
        if not found:
            fix = f"see {LOGS}" if place.ray else "see `dvc queue status`, `dvc queue logs`"
            fail("X25", f"all experiments of rung {rung} failed", fix=fix)
        candidates = space.promoted(found)
    write_csv(out, LINES, map(_line, tries))
    draw(tries, out.with_suffix(".svg"))
    return Found(tries, experiments[max(found, key=lambda candidate: found[candidate])])


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


def _run(experiments: Sequence[Experiment], start: str, space: Space, place: Place) -> None:
    """The one place that starts experiments."""
    if not experiments:
        return
    LOGGER.info("%d experiments to run, from commit %s", len(experiments), start[:7])
    if place.ray:
        jobs = [Job(e.name, start, e.overrides, space.targets, place.keep_models) for e in experiments]
        list(collect(jobs, start, address=place.ray, cpus=space.cpus, gpus=place.gpus, tries=place.tries))
        return
    for number, (name, succeeded) in enumerate(run_in_queue(experiments, space.targets, place.jobs), start=1):
        LOGGER.info("%d/%d %s: %s", number, len(experiments), name, "done" if succeeded else "failed")


def _scores(start: str, experiments: Mapping[Candidate, Experiment], space: Space, run: str) -> dict[Candidate, float]:
    """Candidate -> the mean over seeds of the overall dev score of the run that is asked for, or of all runs."""
    done = finished(start)
    names = [e.name for e in experiments.values() if e.name in done]
    told = scores(start, names, targets=bool(space.targets))
    found = {}
    for candidate, experiment in experiments.items():
        own = told.get(experiment.name, {})
        values = [value for name, value in own.items() if run in ("", name.partition("/")[0])]
        if values:
            found[candidate] = fmean(values)
    return found


def _tries(
    start: str,
    rung: int,
    budget: str,
    experiments: Mapping[Candidate, Experiment],
    found: Mapping[Candidate, float],
) -> list[Try]:
    """The experiments of a rung, best first."""
    paid = costs(start, [experiments[candidate].name for candidate in found])
    best_first = sorted(experiments.items(), key=lambda pair: -found.get(pair[0], -1.0))
    return [
        Try(rung, budget, e.name, " ".join(candidate), found.get(candidate), paid.get(e.name, Cost()))
        for candidate, e in best_first
    ]


def _line(one: Try) -> tuple[object, ...]:
    score = "failed" if one.score is None else f"{one.score:.5f}"
    bill = (f"{one.cost.seconds:.0f}", f"{one.cost.joules / JOULES_A_KWH:.9f}")
    return (one.rung, one.budget, one.name, one.settings, score, *bill)


def summary(found: Found, out: Path) -> str:
    """The table as text, the best, and what the search cost."""
    table = tabulate(map(_line, found.tries), LINES, "simple", disable_numparse=True)
    cost = sum((one.cost for one in found.tries), start=Cost())
    spent = f"{len(found.tries)} experiments, {cost.seconds:,.0f} s of training, {cost.joules / JOULES_A_KWH:.4f} kWh"
    return f"""{table}

best: {" ".join(found.best.settings)}
cost: {spent}
table: {out}, drawn in {out.with_suffix(".svg")}
`dvc exp apply {found.best.name}` puts the best into the workspace
"""
