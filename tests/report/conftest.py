"""A small made-up tree of metrics and predictions, and its report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.closure import ROOT
from yourbert.config.schema import Params
from yourbert.config.yaml_file import read_yaml
from yourbert.core.cost import Cost
from yourbert.core.storage import write_json
from yourbert.core.tasks import Split, Task
from yourbert.evaluation.metrics import Array
from yourbert.evaluation.predictions import evaluate_split, overall_scores, write_predictions
from yourbert.report.markdown import write_report

ROWS = 400
CLASSES = {"sst": ["0", "1", "2", "3", "4"], "quora": ["0.0", "1.0"], "cfimdb": ["0", "1"], "a_b": ["x|y", "z"]}
QUALITY = {"own": 0.6, "shared": 0.6}  # the share of rows that a model certainly knows


def params(tasks: list[str], mixtures: dict[str, list[str]], **changes: Any) -> Params:
    """params.yaml of the repository with other tasks, mixtures and settings."""
    values: dict[str, Any] = dict(read_yaml(ROOT / "params.yaml")[0])
    facts = {"train": "t", "dev": "d", "label": "l"}
    one = {**facts, "kind": "classification", "text": ["a"]}
    values["tasks"] = {
        name: {"data": {**one, "labels": CLASSES[name]} if name in CLASSES else similarity(facts)} for name in tasks
    }
    values["mixtures"] = {name: {"tasks": of, "sampling": "joint"} for name, of in mixtures.items()}
    values |= {"sequential": [], "seeds": [1, 2], "corpus": "bundled"} | changes
    values["evaluate"] = {**values["evaluate"], "bootstrap_samples": 200}
    values["report"] = {"permutations": 500, "alpha": 0.05}
    return Params.model_validate(values)


def similarity(facts: dict[str, str]) -> dict[str, Any]:
    return {**facts, "kind": "similarity", "text": ["a", "b"], "range": [0.0, 5.0]}


class Tree:
    """What `tokenize` and `evaluate` leave behind. quality: by run, or by (run, task)."""

    def __init__(
        self, root: Path, settings: Params, quality: Mapping[Any, float], tested: tuple[str, ...] = ()
    ) -> None:
        self.root, self.settings, self.quality, self.tested = root, settings, quality, tested
        for name, task in self.tasks.items():
            write_json(root / "tokens" / name / "task.json", {**task.to_json(), "lower_case": True})
            write_json(root / "metrics" / "data" / f"{name}.json", account(name))
        runs = {name: [name] for name in settings.tasks} | {m: x.tasks for m, x in settings.multitask.items()}
        for run, names in runs.items():
            for seed in settings.seeds:
                self.evaluate(run, names, seed)

    @property
    def tasks(self) -> dict[str, Task]:
        return {name: block.data.to_task(name) for name, block in self.settings.tasks.items()}

    def evaluate(self, run: str, names: list[str], seed: int) -> None:
        blocks: dict[str, Any] = {name: {} for name in names}
        for name in names:
            splits: tuple[Split, ...] = ("dev", "test") if name in self.tested else ("dev",)
            for split in splits:
                labels_R = gold(self.tasks[name], split)
                outputs = answers(self.tasks[name], labels_R, self.share(run, name), [seed, *run.encode()])
                path = self.root / "predictions" / run / str(seed) / f"{name}-{split}.csv"
                write_predictions(path, self.tasks[name], [f"r{i}" for i in range(ROWS)], outputs, labels_R)
                blocks[name][split] = evaluate_split(
                    self.tasks[name], split, outputs, labels_R, resamples=200, confidence=0.95
                )
        overall = overall_scores([self.tasks[name] for name in names], blocks)
        training = {"steps": 1000 + seed, "tokens": 1234567, "best_epoch": 2, "parameters": 22713600}
        write_json(self.metrics(run, seed), {**blocks, "overall": overall, "training": training})
        cost = Cost(seconds=100.0 * len(names), cpu_seconds=150.0, joules=3600.0 * seed, measured=run != "shared")
        write_json(self.root / "metrics" / "cost" / run / f"{seed}.json", cost.to_json())

    def share(self, run: str, task: str) -> float:
        return self.quality.get((run, task), self.quality["own" if run == task else run])

    def metrics(self, run: str, seed: int) -> Path:
        return self.root / "metrics" / "runs" / run / f"{seed}.json"

    def report(self, overlaps: dict[str, dict[str, int]] | None = None) -> tuple[str, dict[str, Any]]:
        out, summary = self.root / "report", self.root / "metrics" / "summary.json"
        metrics, predictions, tokens = (self.root / name for name in ("metrics", "predictions", "tokens"))
        write_report(self.settings, metrics, predictions, tokens, out, summary, overlaps)
        return (out / "report.md").read_text(encoding="utf-8"), json.loads(summary.read_text())

    def cost(self) -> str:
        self.report()
        return (self.root / "report" / "cost.md").read_text(encoding="utf-8")


def gold(task: Task, split: str) -> Array:
    rng = np.random.default_rng([*task.name.encode(), len(split)])
    return rng.integers(0, len(task.labels), ROWS) if task.labels else np.round(rng.random(ROWS) * 5, 1)


def answers(task: Task, labels_R: Array, quality: float, seed: list[int]) -> Array:
    rng = np.random.default_rng([*seed, *task.name.encode()])
    if not task.labels:
        return np.clip(labels_R + (1.1 - quality) * 4 * rng.normal(size=ROWS), 0, 5)
    guess_R = rng.integers(0, len(task.labels), ROWS)
    said_R = np.where(rng.random(ROWS) < quality, labels_R, guess_R)
    return 0.1 / len(task.labels) + 0.9 * np.eye(len(task.labels))[said_R]


SHARES = {"sts": {"mean": 2.5417, "sd": 1.4807}, "quora": {f"{n}": 100 + n for n in range(9)}}


def account(name: str) -> dict[str, Any]:
    one: dict[str, Any] = {"rows_read": 8544, "rows_used": 8541, "rows_rejected": 3, "truncated": 12}
    one |= {
        "file": f"{name}.csv",
        "length": {"p50": 21, "p90": 37, "p99": 50, "max": 1066},
        "labels": SHARES.get(name, {"a*b": 1, "c": 2}),
    }
    return {
        "splits": {"train": one, "dev": one},
        "overlap": {"dev_in_train": 16},
        "warnings": [f"D21 {name}.csv: 16 rows stand in <b>train</b> too"],
    }


THREE = ["sst", "quora", "sts"]


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    quality: dict[Any, float] = {**QUALITY, ("shared", "sst"): 0.3, ("shared", "quora"): 0.9}
    settings = params(["sst", "cfimdb", "quora", "sts"], {"shared": THREE})
    return Tree(tmp_path_factory.mktemp("full"), settings, quality, tested=("sst", "sts"))


def section(text: str, title: str) -> str:
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def cells(text: str, first: str) -> list[str]:
    """The cells of the first table line that begins with `first`."""
    return lines(text, first)[0]


def lines(text: str, first: str) -> list[list[str]]:
    """The cells of every table line that begins with `first`."""
    found = [line for line in text.splitlines() if line.startswith(f"| {first} ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found]


def flatten(tree: Tree, run: str, seed: int) -> None:
    """Rewrites a seed's sts answers as one constant."""
    task, labels_R, flat_R = tree.tasks["sts"], gold(tree.tasks["sts"], "dev"), np.full(ROWS, 2.5)
    path = tree.root / "predictions" / run / str(seed) / "sts-dev.csv"
    write_predictions(path, task, [f"r{i}" for i in range(ROWS)], flat_R, labels_R)
    found = json.loads(tree.metrics(run, seed).read_text())
    found["sts"]["dev"] = evaluate_split(task, "dev", flat_R, labels_R, resamples=200, confidence=0.95)
    write_json(tree.metrics(run, seed), found)
