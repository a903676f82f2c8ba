"""What tokenizing, predicting and training cost as the rows grow: seconds, rows a second, highest memory.

    python -m benchmarks.scale --sizes 1000 10000 100000 1000000 --predict-up-to 100000 --train-up-to 10000

Rows are the made-up pairs of `benchmarks.tokenize_rows`, the same for every run. Each measurement is a process of its
own, so that its memory is its own; its seconds leave out the start of Python. Prints a table, writes the figures to
benchmarks/results/scale.json and, with --figure and the extra `bench`, draws them. A cost is linear when the exponent,
the slope between the last two sizes on paper ruled in logarithms, is near 1.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmarks import machine
from benchmarks.tokenize_rows import DEV_ROWS, generate
from yourbert.config.params import read_params
from yourbert.config.schema import Mixture, Runtime, TaskData
from yourbert.core.errors import exit_cleanly
from yourbert.core.storage import write_json
from yourbert.report.charts import canvas, save

NAME, SEED = "rows", 1
RESULTS = Path("benchmarks/results/scale.json")
DATA = TaskData(
    kind="classification", train="train.csv", dev="dev.csv", text=["first", "second"], label="label", id="id",
    labels=["0", "1"], max_length=64,
)  # fmt: skip
Figures = list[dict[str, Any]]


def main() -> None:
    options = _options()
    if options.child:
        _measure(STEPS[options.child], options)
        return
    figures: Figures = []
    for rows in sorted(options.sizes):
        limits = {"tokenize": rows, "predict": options.predict_up_to, "train": options.train_up_to}
        with tempfile.TemporaryDirectory(dir=options.work) as work:
            generate(Path(work) / DATA.train, rows, seed=1)
            generate(Path(work) / DATA.dev, DEV_ROWS, seed=2)
            for step in (step for step in STEPS if rows <= limits[step]):
                figures.append({"step": step, "rows": rows} | _in_a_process(step, Path(work), options))
                print(figures[-1], file=sys.stderr)
    print(table(figures))
    facts = {"command": machine.command("benchmarks.scale"), "machine": machine.facts("cpu")}
    write_json(options.out, facts | {"threads": options.threads, "figures": figures, "exponents": exponents(figures)})
    if options.figure:
        draw(figures, options.figure)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000], help="rows")
    parser.add_argument("--predict-up-to", type=int, default=100_000, metavar="ROWS")
    parser.add_argument("--train-up-to", type=int, default=10_000, metavar="ROWS")
    parser.add_argument("--base", type=Path, default=Path("build/base"), help="folder of the pretrained model")
    parser.add_argument("--threads", type=int, default=0, help="as in params.yaml")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--figure", type=Path, default=None, metavar="SVG", help="draw the figures, too")
    parser.add_argument("--work", type=Path, default=None, help="where temporary files are kept")
    parser.add_argument("--child", choices=STEPS, default=None, help=argparse.SUPPRESS)
    return parser.parse_args()


def _in_a_process(step: str, work: Path, options: argparse.Namespace) -> dict[str, Any]:
    words = ["--child", step, "--work", str(work), "--base", str(options.base), "--threads", str(options.threads)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale", *words], stdout=subprocess.PIPE, text=True, check=True
    )
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def _measure(step: Callable[[Path, Path, int], int], options: argparse.Namespace) -> None:
    """Runs one step and prints its figures."""
    start = time.perf_counter()
    rows = step(options.work, options.base, options.threads)
    seconds = time.perf_counter() - start
    itself, workers = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    figures = {
        "seconds": round(seconds, 3),
        "rows_per_second": round(rows / seconds, 1),
        "peak_rss_mb": itself.ru_maxrss // 1024,
        "peak_rss_of_a_worker_mb": workers.ru_maxrss // 1024 if step is _tokenize else 0,  # others run git alone
    }
    print(json.dumps(figures))


def _tokenize(work: Path, base: Path, threads: int) -> int:
    from yourbert.tokens.tokenize_task import tokenize_task

    account = tokenize_task(NAME, DATA, work, base, work / "tokens" / NAME, threads)
    return int(account["splits"]["train"]["rows_used"])


def _predict(work: Path, base: Path, threads: int) -> int:
    from yourbert.deploy.batch import batch_predict

    model = _untrained(work / "model", base)
    runtime = Runtime(device="auto", precision="auto", num_threads=threads, deterministic=False)
    out = work / "answers.csv"
    batch_predict(model, str(work / DATA.train), task_name=NAME, columns=(), id_column=None, out=out, runtime=runtime)
    with out.open(encoding="utf-8") as file:
        return sum(1 for _ in file) - 1


def _untrained(folder: Path, base: Path) -> Path:
    """A model folder for the rows' task with a drawn head: what is predicted does not change what it costs."""
    import torch

    from yourbert.inference.model_folder import save_model
    from yourbert.model.multitask import Model
    from yourbert.model.pretrained import load_encoder

    rng, task = torch.Generator().manual_seed(SEED), DATA.to_task(NAME)
    model = Model(load_encoder(base, 0.0, rng).encoder, [task], "cls", 0.0, rng)
    save_model(folder, model, {NAME: task}, base, {})
    return folder


def _train(work: Path, base: Path, threads: int) -> int:
    """One epoch with the training parameters of params.yaml, and the two evaluations on dev around it."""
    from yourbert.finetuning.finetune import finetune
    from yourbert.tokens.packing import open_tokens

    params = read_params()
    settings = params.training(next(iter(params.tasks))).model_copy(update={"epochs": 1})
    finetune(
        name=NAME,
        mixture=Mixture(tasks=[NAME], sampling="proportional"),
        settings=settings,
        runtime=params.runtime().model_copy(update={"threads": threads}),
        seed=SEED,
        encoder=base,
        tokens=work / "tokens",
        out=work / "trained",
        curve=work / "curve.csv",
        cost=work / "cost.json",
    )
    return len(open_tokens(work / "tokens" / NAME).splits["train"])


STEPS: dict[str, Callable[[Path, Path, int], int]] = {"tokenize": _tokenize, "predict": _predict, "train": _train}


def exponents(figures: Figures) -> dict[str, float]:
    """For each step, the power of the rows that its seconds grow with, between its two largest sizes."""
    found = {}
    for step in STEPS:
        own = sorted((f["rows"], f["seconds"]) for f in figures if f["step"] == step)
        if len(own) > 1:
            (few, fast), (many, slow) = own[-2:]
            found[step] = round(math.log(slow / fast) / math.log(many / few), 3)
    return found


def table(figures: Figures) -> str:
    heading = ["step", "rows", "seconds", "rows/s", "peak MB", "a worker's MB"]
    powers = exponents(figures)
    rows = [[f["step"], *list(f.values())[1:]] for f in figures]
    return tabulate(rows, heading, floatfmt=".1f") + "\n" + "".join(f"{s}: rows^{p}\n" for s, p in powers.items())


def draw(figures: Figures, path: Path) -> None:
    """Seconds against rows, both in logarithms; a grey line is what linear cost looks like."""
    chart, axes = canvas(6, 4)
    for step in STEPS:
        own = sorted((f["rows"], f["seconds"]) for f in figures if f["step"] == step)
        if own:
            rows, seconds = zip(*own, strict=True)
            axes.loglog(rows, seconds, marker="o", label=step)
            axes.loglog(rows, [seconds[-1] * n / rows[-1] for n in rows], color="lightgrey", zorder=0)
    axes.set_xlabel("rows")
    axes.set_ylabel("seconds")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    save(chart, path)


if __name__ == "__main__":
    exit_cleanly(main)
