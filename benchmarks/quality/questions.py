"""Which tailoring is better? The same seeds trained in two ways or more, compared by the report's own paired test.

    python -m benchmarks.quality.questions pooling tuning --runs sst sts --seeds 1 2 3 4 5 --jobs 2

Each question is a few ways to train (benchmarks/quality/asked.py), the first of which the others are set against. A run
is a model of params.yaml, trained from build/base on build/corpus (--base, --corpus) in a process of
one thread; what has a record in results/trials beside this file is not trained again, whatever question asks for it.
Prints a table, keeps the answers in results/questions.json and puts all of them into docs/findings.md (--page).
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from tabulate import tabulate

from benchmarks import machine
from benchmarks.pages import fill
from benchmarks.quality.asked import QUESTIONS
from benchmarks.quality.trials import PURPOSE, Setup, Trial, Way, train, trial
from yourbert.config.params import read_params
from yourbert.config.schema import Params, TaskData
from yourbert.core.errors import exit_cleanly, fail, nearest
from yourbert.core.filenames import local_name
from yourbert.core.program import let_threads_sleep
from yourbert.core.storage import read_json, write_json

if TYPE_CHECKING:
    from yourbert.core.tasks import Metric
    from yourbert.corpus.rows import Row
    from yourbert.evaluation.significance import Differences

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    given = _options()
    params = read_params()
    setup = Setup(given.base, given.corpus, given.work, given.records, given.epochs, given.text)
    asked = {
        (name, run): {way.name: _trials(run, way, given.seeds, params, setup) for way in ways_of(name, given.ways)}
        for name in given.questions
        for run in given.runs
    }
    trials = [one for ways in asked.values() for of in ways.values() for one in _each(of)]
    waves = _waves(trials)
    if given.child:
        train(next(one for wave in waves for one in wave if one.place.name == given.child), params, setup)
        return
    with ThreadPoolExecutor(given.jobs) as pool:
        for wave in waves:
            # What is asked for may also be what another goes on from, and so stand in two lists.
            missing = {one.place: one for one in wave if not (one.known and one.trained)}
            for one in pool.map(_in_a_process, missing.values()):
                print(one.run, one.seed, one.way.name, one.place, file=sys.stderr, flush=True)
    known = read_json(given.out) if given.out.exists() else {}
    for name in given.questions:
        found = {run: compared(name, asked[name, run], params, setup) for run in given.runs}
        print(f"\n{QUESTIONS[name].asks}\n\n{table(found)}")
        facts = {"command": _command(name, given), "machine": machine.facts("cpu")}
        known[name] = {**facts, "runs": {**known.get(name, {}).get("runs", {}), **found}}
    write_json(given.out, known)
    fill(given.page, [section(name, known[name]) for name in QUESTIONS if name in known])


def ways_of(name: str, chosen: Sequence[str]) -> list[Way]:
    """The ways of a question, or its first and those chosen. Raises UserError (P05) for one that it does not have."""
    first, *others = QUESTIONS[name].ways
    known = [way.name for way in others]
    for unknown in sorted({*chosen} - {first.name, *known}):
        fail("P05", f"no way '{unknown}' of '{name}' ({', '.join(known)}){nearest(unknown, known)}", where="--ways")
    return [first, *(way for way in others if not chosen or way.name in chosen)]


def _waves(trials: Sequence[Trial]) -> list[list[Trial]]:
    """What is still to be trained; what others go on from is in an earlier list."""
    waves = [[one for one in trials if not one.known]]
    while before := [one.after for one in waves[0] if one.after and not one.after.trained]:
        waves.insert(0, before)
    return waves


def _trials(run: str, way: Way, seeds: Sequence[int], params: Params, setup: Setup) -> dict[str, list[Trial]]:
    """For each task of a run, who answers it: one trial a seed."""
    tasks = params.multitask[run].tasks if run in params.multitask else [run]
    together = {} if way.alone else {seed: trial(run, seed, way, params, setup) for seed in seeds}
    return {task: [together.get(s) or trial(task, s, way, params, setup) for s in seeds] for task in tasks}


def _command(name: str, given: argparse.Namespace) -> str:
    """What answers a question, wherever base and corpus lie."""
    words = ["python -m benchmarks.quality.questions", name, "--runs", *given.runs, "--seeds", *map(str, given.seeds)]
    words += ["--ways", *map(shlex.quote, given.ways)] if given.ways else []
    words += ["--epochs", str(given.epochs)] if given.epochs else []
    return " ".join(words + (["--text", given.text.name] if given.text else []))


def section(name: str, answered: dict[str, Any]) -> str:
    """A question and its answers as the page shows them, its ways in their order."""
    facts = answered["machine"]
    order = {way.name: number for number, way in enumerate(QUESTIONS[name].ways)}
    runs = {run: {**found, "tasks": {}} for run, found in answered["runs"].items()}
    for run, found in answered["runs"].items():
        for task, one in found["tasks"].items():
            scores = dict(sorted(one["scores"].items(), key=lambda pair: order.get(pair[0], len(order))))
            runs[run]["tasks"][task] = {**one, "scores": scores}
    seeds = ", ".join(str(seed) for seed in next(iter(runs.values()))["seeds"])
    how = f"`{answered['command']}`; seeds {seeds}; revision {facts['revision']}, torch {facts['packages']['torch']}."
    return "\n\n".join([f"### {QUESTIONS[name].asks}", table(runs), how])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", nargs="+", choices=QUESTIONS, metavar="QUESTION", help=", ".join(QUESTIONS))
    parser.add_argument("--runs", nargs="+", default=["sst", "sts"], help="models of params.yaml")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--ways", nargs="+", default=[], metavar="WAY", help="beside the first, instead of all others")
    parser.add_argument("--epochs", type=int, help="instead of those of params.yaml")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time, a thread each")
    parser.add_argument("--base", type=Path, default=Path("build/base"))
    parser.add_argument("--corpus", type=Path, default=Path("build/corpus"))
    parser.add_argument("--text", type=Path, help="further text of the domain, for the questions that ask for it")
    parser.add_argument("--work", type=Path, default=Path("build/bench/questions"))
    parser.add_argument("--records", type=Path, default=RESULTS / "trials")
    parser.add_argument("--out", type=Path, default=RESULTS / "questions.json")
    parser.add_argument("--page", type=Path, default=Path("docs/findings.md"))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def _in_a_process(one: Trial) -> Trial:
    """Trains it in a process of its own, by this very command."""
    one.place.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.quality.questions", *sys.argv[1:], "--child", one.place.name]
    with (one.place / "log").open("w") as log:
        subprocess.run(command, stdout=log, stderr=log, check=True)
    return one


Asked = Mapping[str, Mapping[str, Sequence[Trial]]]  # way -> task -> a trial a seed


def compared(name: str, asked: Asked, params: Params, setup: Setup) -> dict[str, Any]:
    """Scores by seed of every way, what they cost, and its paired test against the first: by task, then overall."""
    first = next(iter(asked.values()))
    answered = {}
    for task in first:
        rows = _dev_rows(task, params.tasks[task].data, setup.corpus)
        answered[task] = _task(name, task, {way: of[task] for way, of in asked.items()}, rows, params)
    if len(answered) > 1:
        answered["overall"] = _overall([*answered.values()])
    return {
        "seeds": [one.seed for one in next(iter(first.values()))],
        "seconds": {way: round(_seconds(of), 1) for way, of in asked.items()},
        "tasks": {task: one.told(params) for task, one in answered.items()},
    }


def _seconds(of: Mapping[str, Sequence[Trial]]) -> float:
    """Of all that a seed trains, in the mean over seeds."""
    return sum(one.seconds for one in _each(of)) / len(next(iter(of.values())))


def _each(of: Mapping[str, Sequence[Trial]]) -> list[Trial]:
    """The trials behind the tasks of a way, one that answers several tasks once."""
    return [*{one.record: one for trials in of.values() for one in trials}.values()]


def _dev_rows(task: str, data: TaskData, corpus: Path) -> list[Row]:
    from yourbert.corpus.rows import SplitRows

    return list(SplitRows(corpus / local_name(data.dev), task, data, "dev"))


@dataclass(frozen=True)
class Answered:
    """What one task, or several in the mean, came to. scores: by way and seed; draws: of each way against the first."""

    metric: Metric | Literal["mean of 0..1"]
    scores: Mapping[str, Sequence[float]]
    draws: Mapping[str, Differences]

    def told(self, params: Params) -> dict[str, Any]:
        """Scores and tests, corrected over the ways."""
        from yourbert.evaluation.metrics import rounded
        from yourbert.evaluation.significance import compare

        tests = compare(self.draws, params.report.alpha, params.report.equivalence_margin)
        return {
            "metric": self.metric,
            "scores": {way: [round(value, 5) for value in values] for way, values in self.scores.items()},
            "against": {way: rounded(test.to_json()) for way, test in tests.items()},
        }


def _task(name: str, task: str, trials: Mapping[str, Sequence[Trial]], rows: Sequence[Row], params: Params) -> Answered:
    """A task by way, and each way against the first."""
    from yourbert.core.seeding import rng_for
    from yourbert.evaluation.metrics import score_predictions
    from yourbert.evaluation.significance import paired

    facts = params.tasks[task].data.to_task(task)
    kind = np.int64 if facts.labels else np.float64
    answers = {way: np.stack([one.answers(task) for one in of]).astype(kind) for way, of in trials.items()}
    labels_R, (first, *others) = np.array([row.label for row in rows]).astype(kind), trials
    scores = {
        way: [score_predictions(facts, one_R, labels_R)[facts.metric] for one_R in answers_SR]
        for way, answers_SR in answers.items()
    }
    found = {}
    for way in others:
        draws = paired(
            facts.metric, answers[way], answers[first], labels_R, classes=len(facts.labels),
            permutations=params.report.permutations, generator=rng_for(0, PURPOSE, name, task, way),
        )  # fmt: skip
        assert draws is not None, "every score is defined"
        found[way] = draws
    return Answered(facts.metric, scores, found)


def _overall(tasks: Sequence[Answered]) -> Answered:
    """The mean of several tasks, each on 0..1, as the report has it."""
    from yourbert.core.tasks import normalised, share
    from yourbert.evaluation.significance import mean_of

    metrics = [one.metric for one in tasks if one.metric != "mean of 0..1"]
    scores = {
        way: [
            fmean(normalised(metric, score) for metric, score in zip(metrics, seed, strict=True))
            for seed in zip(*(one.scores[way] for one in tasks), strict=True)
        ]
        for way in tasks[0].scores
    }
    draws = {
        way: mean_of([(share(metric), one.draws[way]) for metric, one in zip(metrics, tasks, strict=True)])
        for way in tasks[0].draws
    }
    return Answered("mean of 0..1", scores, draws)


def table(found: dict[str, Any]) -> str:
    """A line for each way, run and task: mean and deviation over seeds, how far above the first way, seconds."""
    rows = []
    for run, of_run in found.items():
        for task, one in of_run["tasks"].items():
            for way, values in one["scores"].items():
                spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
                rival = one["against"].get(way)
                gap = "-"
                if rival:
                    ends = f"{rival['low']:+.3f} to {rival['high']:+.3f}"
                    gap = f"{rival['verdict']}: {rival['difference']:+.3f} ({ends}), p = {rival['p_holm']:.3f}"
                rows.append(
                    [run, f"{task} ({one['metric']})", way, f"{fmean(values):.3f}{spread}", gap,
                     f"{of_run['seconds'][way]:.0f}"]
                )  # fmt: skip
    head = ["model", "dev of", "way", "mean ± sd over seeds", "against the first (corrected interval)", "seconds"]
    return tabulate(rows, head, tablefmt="pipe", disable_numparse=True)


if __name__ == "__main__":
    let_threads_sleep()
    exit_cleanly(main)
