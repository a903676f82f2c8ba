"""Parameter search: runs candidates as DVC experiments, rung by rung; writes a table and a chart, names the best.

The experiments run in DVC's queue or on a Ray cluster. With a budget the search is successive halving, without one a
grid. Experiments that are finished already are not run again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from tabulate import tabulate

from yourbert.config.params import model_blocks, read_params
from yourbert.config.schema import Params, Training
from yourbert.core.cost import JOULES_PER_KWH, Cost
from yourbert.core.errors import fail, nearest
from yourbert.core.storage import write_csv
from yourbert.experiments.cluster.node import ExperimentJob
from yourbert.experiments.cluster.repository import check_remote, finished, scores, starting_commit
from yourbert.experiments.cluster.sweep import LOGS, collect
from yourbert.experiments.search.chart import draw_search
from yourbert.experiments.search.cost import Trial, costs
from yourbert.experiments.search.grid import Experiment
from yourbert.experiments.search.halving import SearchSpace
from yourbert.experiments.search.queue import run_in_queue

logger = logging.getLogger("yourbert")
HEADER = ("rung", "budget", "name", "settings", "score", "seconds", "kwh")
Candidate = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Backend:
    """Where experiments run: in DVC's queue, `jobs` at a time, or on the Ray cluster at address `ray`.

    Only for a cluster: gpus, of one experiment; max_attempts, per experiment; models_remote, the DVC remote to push
    models to, "" for none.
    """

    jobs: int = 1
    ray: str = ""
    gpus: int = 0
    max_attempts: int = 3
    models_remote: str = ""


@dataclass(frozen=True)
class SearchResult:
    """trials: rung by rung, best first. best: the best experiment of the last rung."""

    trials: list[Trial]
    best: Experiment

    @property
    def complete(self) -> bool:
        return all(trial.score is not None for trial in self.trials)


def search(space: SearchSpace, run: str, backend: Backend, out: Path) -> SearchResult:
    """Runs the rungs; writes the table `out` (csv) and its chart (svg, beside it).

    run: rank by the overall dev score of this model, "" for the mean of all. Raises UserError: P.. and X21, X24 for
    invalid input before anything runs, X25 if all experiments of a rung failed.
    """
    check_reach(space.keys(), run, read_params())
    if backend.models_remote:
        check_remote(backend.models_remote)
    candidates, trials = space.candidates(), list[Trial]()
    for budget in space.budgets():
        space.experiment(candidates[0], budget)  # so that errors of later rungs are raised before anything runs
    start = starting_commit()
    for rung, budget in enumerate(space.budgets(), start=1):
        experiments = {candidate: space.experiment(candidate, budget) for candidate in candidates}
        done = finished(start)
        _run([e for e in experiments.values() if e.name not in done], start, space, backend)
        ranking = _scores(start, experiments, space, run)
        trials += _trials(start, rung, budget, experiments, ranking)
        if not ranking:
            fix = f"see {LOGS}" if backend.ray else "see `dvc queue status`, `dvc queue logs`"
            fail("X25", f"all experiments of rung {rung} failed", fix=fix)
        candidates = space.promote(ranking)
    write_csv(out, HEADER, map(_cells, trials))
    draw_search(trials, out.with_suffix(".svg"))
    return SearchResult(trials, experiments[max(ranking, key=lambda candidate: ranking[candidate])])


def check_reach(keys: Sequence[str], run: str, params: Params) -> None:
    """Raises UserError: P05 for an unknown run, P18 for a key that the run overrides, which has no effect on it."""
    if not run:
        return
    places = dict(model_blocks(params))
    if run not in places:
        known = ", ".join(places)
        fail("P05", f"no model '{run}' (there are {known}){nearest(run, places)}", where="--run")
    for key in keys:
        if key in Training.model_fields and key in params.overrides(run):
            override = f"{places[run]}.{key}"
            what = f"{override} in params.yaml overrides `{key}` for '{run}'"
            fail("P18", what, where=key, fix=f"vary {override}")


def _run(experiments: Sequence[Experiment], start: str, space: SearchSpace, backend: Backend) -> None:
    if not experiments:
        return
    logger.info("%d experiments to run, from commit %s", len(experiments), start[:7])
    if backend.ray:
        jobs = [ExperimentJob(e.name, start, e.overrides, space.targets, backend.models_remote) for e in experiments]
        limits = {"cpus": space.cpus, "gpus": backend.gpus, "max_attempts": backend.max_attempts}
        list(collect(jobs, start, address=backend.ray, **limits))
        return
    for number, (name, succeeded) in enumerate(run_in_queue(experiments, space.targets, backend.jobs), start=1):
        logger.info("%d/%d %s: %s", number, len(experiments), name, "done" if succeeded else "failed")


def _scores(
    start: str, experiments: Mapping[Candidate, Experiment], space: SearchSpace, run: str
) -> dict[Candidate, float]:
    """Candidate -> overall dev score, the mean over the seeds of `run`, or over all runs if it is ""."""
    done = finished(start)
    names = [e.name for e in experiments.values() if e.name in done]
    by_name = scores(start, names, targets=bool(space.targets))
    means = {}
    for candidate, experiment in experiments.items():
        by_run = by_name.get(experiment.name, {})
        values = [value for name, value in by_run.items() if run in ("", name.partition("/")[0])]
        if values:
            means[candidate] = fmean(values)
    return means


def _trials(
    start: str,
    rung: int,
    budget: str,
    experiments: Mapping[Candidate, Experiment],
    ranking: Mapping[Candidate, float],
) -> list[Trial]:
    """The experiments of a rung, best first."""
    cost = costs(start, [experiments[candidate].name for candidate in ranking])
    best_first = sorted(experiments.items(), key=lambda pair: -ranking.get(pair[0], -1.0))
    return [
        Trial(rung, budget, e.name, " ".join(candidate), ranking.get(candidate), cost.get(e.name, Cost()))
        for candidate, e in best_first
    ]


def _cells(trial: Trial) -> tuple[object, ...]:
    score = "failed" if trial.score is None else f"{trial.score:.5f}"
    cost = (f"{trial.cost.seconds:.0f}", f"{trial.cost.joules / JOULES_PER_KWH:.9f}")
    return (trial.rung, trial.budget, trial.name, trial.settings, score, *cost)


def summary(result: SearchResult, out: Path) -> str:
    """The table, the best experiment and the cost of the search, as text."""
    table = tabulate(map(_cells, result.trials), HEADER, "simple", disable_numparse=True)
    cost = sum((trial.cost for trial in result.trials), start=Cost())
    spent = (
        f"{len(result.trials)} experiments, {cost.seconds:,.0f} s of training, {cost.joules / JOULES_PER_KWH:.4f} kWh"
    )
    return f"""{table}

best: {" ".join(result.best.settings)}
cost: {spent}
table: {out}, drawn in {out.with_suffix(".svg")}
`dvc exp apply {result.best.name}` puts the best into the workspace
"""
