"""Do the tricks that make training fast change what is learnt? The same seeds with all of them and with none.

    python -m benchmarks.agreement --tasks sst sts --seeds 1 2 3 4 5 --jobs 2

Trains each task (with the parameters of params.yaml, from build/base on build/tokens) with each seed twice: as the
library does, and in fp32 with every switch of `benchmarks.switches` off. Dev answers are compared by the report's own
paired test. Each run is a process of one thread; those that are done already (--work) are not done again. Prints a
table and writes benchmarks/results/agreement.json.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, get_args

from tabulate import tabulate

from benchmarks import machine
from benchmarks.results import RESULTS
from yourbert.params import read_params
from yourbert.settings import Params
from yourbert.storage import write_json

Way = Literal["on", "off"]
PURPOSE = "tricks on, tricks off"


def main() -> None:
    given = _options()
    if given.child:
        _run(given.child, given.tasks[0], given.seeds[0], given)
        return
    wanted = [(way, task, seed) for task in given.tasks for seed in given.seeds for way in get_args(Way)]
    with ThreadPoolExecutor(given.jobs) as pool:
        places = pool.map(lambda run: _in_a_process(run[0], run[1], run[2], given), wanted)
        for run, place in zip(wanted, places, strict=True):
            print(*run, place, file=sys.stderr, flush=True)
    params = read_params()
    found = {task: _compared(task, params, given) for task in given.tasks}
    print(table(found))
    facts = {"command": machine.command("benchmarks.agreement"), "machine": machine.facts("cpu")}
    write_json(given.out, facts | {"epochs": given.epochs, "tasks": found})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["sst", "sts"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--epochs", type=int, help="instead of those of params.yaml")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time, a thread each")
    parser.add_argument("--base", type=Path, default=Path("build/base"))
    parser.add_argument("--tokens", type=Path, default=Path("build/tokens"))
    parser.add_argument("--work", type=Path, default=Path("build/bench/agreement"))
    parser.add_argument("--out", type=Path, default=RESULTS / "agreement.json")
    parser.add_argument("--child", choices=get_args(Way), help=argparse.SUPPRESS)
    return parser.parse_args()


def _place(way: Way, task: str, seed: int, given: argparse.Namespace) -> Path:
    folder: Path = given.work / f"{task}-{seed}-{way}" / str(given.epochs or "all")
    return folder


def _in_a_process(way: Way, task: str, seed: int, given: argparse.Namespace) -> Path:
    place = _place(way, task, seed, given)
    if not (place / "metrics.json").exists():
        place.mkdir(parents=True, exist_ok=True)
        words = ["--child", way, "--tasks", task, "--seeds", seed, "--base", given.base, "--tokens", given.tokens]
        words += ["--work", given.work, *(["--epochs", given.epochs] if given.epochs else [])]
        command = [sys.executable, "-m", "benchmarks.agreement", *map(str, words)]
        with (place / "log").open("w") as log:
            subprocess.run(command, stdout=log, stderr=log, check=True)
    return place


def _run(way: Way, task: str, seed: int, given: argparse.Namespace) -> None:
    """Trains and evaluates in this process; the metrics are written last."""
    from benchmarks.switches import SWITCHES, off
    from yourbert.evaluate import evaluate
    from yourbert.settings import Mixture
    from yourbert.tailor import tailor

    params, place = read_params(), _place(way, task, seed, given)
    runtime = params.runtime().model_copy(update={"threads": 1})
    settings = params.training(task)
    if given.epochs:
        settings = settings.model_copy(update={"epochs": given.epochs})
    if way == "off":
        runtime = runtime.model_copy(update={"precision": "fp32"})
    mixture = Mixture(tasks=[task], sampling="proportional")
    with off(*(SWITCHES if way == "off" else ())):
        tailor(
            f"{PURPOSE}: {way}, {task}", mixture, settings, runtime, seed, given.base, given.tokens, place / "model",
            place / "curve.csv", place / "cost.json",
        )  # fmt: skip
        evaluate(
            place / "model", given.tokens, params.evaluate, runtime, place / "answers", place / "metrics.json",
            place / "confusion.csv",
        )  # fmt: skip


def _compared(task: str, params: Params, given: argparse.Namespace) -> dict[str, Any]:
    """Scores by seed of both ways, and the paired test between them."""
    import numpy as np

    from yourbert.metrics import score_decided
    from yourbert.predictions import read_predictions
    from yourbert.seeding import rng_for
    from yourbert.significance import compare, paired

    facts = params.tasks[task].data.facts(task)
    read = {
        way: [read_predictions(_place(way, task, s, given) / "answers" / f"{task}-dev.csv", facts) for s in given.seeds]
        for way in get_args(Way)
    }
    labels_R = read["on"][0].labels_R
    assert labels_R is not None, "a dev split has labels"
    scores = {
        way: [score_decided(facts, one.predicted_R, labels_R)[facts.metric] for one in runs]
        for way, runs in read.items()
    }
    draws = paired(
        facts.metric,
        np.stack([one.predicted_R for one in read["on"]]),
        np.stack([one.predicted_R for one in read["off"]]),
        labels_R,
        classes=len(facts.labels),
        permutations=params.report.permutations,
        resamples=params.evaluate.bootstrap,
        generator=rng_for(0, PURPOSE, task),
    )
    assert draws is not None, "every score is defined"
    found = compare(draws, params.evaluate.confidence)
    return {
        "metric": facts.metric,
        "seeds": given.seeds,
        "scores": {way: [round(value, 5) for value in values] for way, values in scores.items()},
        "difference": round(found.difference, 5),
        "low": round(found.low, 5),
        "high": round(found.high, 5),
        "p": round(found.p, 5),
        "noise": round(max(statistics.stdev(values) for values in scores.values()), 5),
    }


def table(found: dict[str, Any]) -> str:
    """A line per task; noise: the larger of the two standard deviations over seeds."""
    rows = []
    for task, one in found.items():
        means = [f"{statistics.fmean(one['scores'][way]):.4f}" for way in get_args(Way)]
        gap = f"{one['difference']:+.4f} ({one['low']:+.4f} to {one['high']:+.4f})"
        rows.append([task, one["metric"], *means, gap, f"{one['p']:.3f}", f"{one['noise']:.4f}"])
    head = ["task", "dev", "all on", "all off", "difference", "p", "sd of seeds"]
    return tabulate(rows, head, tablefmt="pipe", disable_numparse=True)


if __name__ == "__main__":
    import stages  # noqa: F401  # sets up OpenMP before torch is imported, as every stage does

    main()
