"""Reads the inputs of the report, for the models and seeds in params.yaml.

The metrics folder may contain files of models that are no longer in params.yaml, so folders are not listed. All needed
files are determined first, then read, and refused unless they belong to the same runs.

Shapes: S seeds, R rows. Data flow: evaluate -> load -> results -> markdown, page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from yourbert.config.schema import Params
from yourbert.core.cost import Cost
from yourbert.core.errors import Problem, UserError, fail
from yourbert.core.storage import read_json
from yourbert.core.tasks import Split, Task
from yourbert.evaluation.metrics import Array, score_predictions
from yourbert.evaluation.predictions import Predictions, read_predictions

LABELLED: tuple[Split, ...] = ("dev", "test")
AGREE = 1e-3  # a score from a prediction file's six digits may differ this much from the metrics file
Place = tuple[str, Split, str]  # task, split, run


@dataclass(frozen=True, kw_only=True, eq=False)
class RunPredictions:
    """The predictions of one run for one split. scores: its metric per seed; `status` says why one is missing.

    probabilities_SRC: of each class; None for a similarity.
    """

    ids: tuple[str, ...]
    predicted_SR: Array
    probabilities_SRC: Array | None
    labels_R: Array
    scores: tuple[float, ...]
    status: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Gathered:
    """The inputs of the report. runs: the tasks of each model, single-task models first. training, costs: by seed.

    The costs of a sequential model include those of the model it starts from.
    """

    tasks: Mapping[str, Task]
    runs: Mapping[str, tuple[str, ...]]
    predictions: Mapping[Place, RunPredictions]
    training: Mapping[str, list[dict[str, Any]]]
    costs: Mapping[str, list[Cost]]
    accounts: Mapping[str, dict[str, Any]]
    pretrain: Mapping[str, Any]
    pretrain_cost: Cost

    def mixtures_of(self, task: str) -> list[str]:
        return [run for run, tasks in self.runs.items() if run != task and task in tasks]

    @property
    def mixtures(self) -> dict[str, tuple[str, ...]]:
        return {run: tasks for run, tasks in self.runs.items() if run not in self.tasks}

    @property
    def alike(self) -> dict[tuple[str, ...], list[str]]:
        """The multi-task models grouped by their set of tasks."""
        found: dict[tuple[str, ...], list[str]] = {}
        for run, tasks in self.mixtures.items():
            found.setdefault(tuple(sorted(tasks, key=list(self.tasks).index)), []).append(run)
        return found


def runs_of(params: Params) -> dict[str, tuple[str, ...]]:
    """Every model of params.yaml and its tasks: one per task, then the mixtures, then the sequential models."""
    return {task: (task,) for task in params.tasks} | {name: tuple(x.tasks) for name, x in params.multitask.items()}


def gather(params: Params, metrics: Path, predictions: Path, tokens: Path) -> Gathered:
    """Reads all inputs. Raises UserError (C01) for all missing files at once, or for files of different runs."""
    runs = runs_of(params)
    _require(list(_needed(params, runs, metrics, predictions, tokens)))
    tasks = {name: _task(tokens / name / "task.json") for name in params.tasks}
    pretrained, pretrain_cost = metrics / "pretrain.json", metrics / "cost" / "pretrain.json"
    by_place, training, costs = {}, {}, {}
    for run, names in runs.items():
        files = [metrics / "runs" / run / f"{seed}.json" for seed in params.seeds]
        found = {file: read_json(file) for file in files}
        training[run] = [one.get("training", {}) for one in found.values()]
        costs[run] = [Cost.from_json(read_json(metrics / "cost" / run / f"{seed}.json")) for seed in params.seeds]
        for name in names:
            for split in _splits(found, name):
                blocks = {file: one[name][split] for file, one in found.items()}
                rows = [predictions / run / str(seed) / f"{name}-{split}.csv" for seed in params.seeds]
                by_place[name, split, run] = _run_predictions(tasks[name], blocks, rows)
    _same_rows(by_place)
    starts = {model.name: model.init_from for model in params.sequential}
    return Gathered(
        tasks=tasks,
        runs=runs,
        predictions=by_place,
        training=training,
        costs={run: _total_costs(run, costs, starts) for run in runs},
        accounts={name: read_json(metrics / "data" / f"{name}.json") for name in params.tasks},
        pretrain=read_json(pretrained) if pretrained.is_file() else {},
        pretrain_cost=Cost.from_json(read_json(pretrain_cost)) if pretrain_cost.is_file() else Cost(),
    )


def _total_costs(run: str, costs: Mapping[str, list[Cost]], starts: Mapping[str, str]) -> list[Cost]:
    if run not in starts:
        return costs[run]
    return [one + before for one, before in zip(costs[run], _total_costs(starts[run], costs, starts), strict=True)]


def _needed(
    params: Params, runs: Mapping[str, tuple[str, ...]], metrics: Path, predictions: Path, tokens: Path
) -> Iterator[Path]:
    for task in params.tasks:
        yield tokens / task / "task.json"
        yield metrics / "data" / f"{task}.json"
    for run, tasks in runs.items():
        for seed in params.seeds:
            yield metrics / "runs" / run / f"{seed}.json"
            yield metrics / "cost" / run / f"{seed}.json"
            yield from (predictions / run / str(seed) / f"{task}-dev.csv" for task in tasks)


def _require(files: list[Path]) -> None:
    fix = "run `dvc repro` to make it"
    missing = [Problem("C01", "the file is missing", str(f), fix) for f in files if not f.is_file()]
    if missing:
        raise UserError(missing)


def _task(path: Path) -> Task:
    return Task.from_json(read_json(path), str(path))


def _splits(found: Mapping[Path, dict[str, Any]], task: str) -> list[Split]:
    """The splits for which every seed of a run has scores of the task; dev is required."""
    for file, one in found.items():
        if "dev" not in one.get(task, {}):
            fail("C01", f"no dev scores of task '{task}'", where=str(file), fix="run `dvc repro` to make them")
    return [split for split in LABELLED if all(split in one[task] for one in found.values())]


def _run_predictions(task: Task, blocks: Mapping[Path, dict[str, Any]], files: list[Path]) -> RunPredictions:
    """The predictions of a run. blocks: by metrics file, the scores of a seed; files: its prediction files."""
    read = [read_predictions(file, task) for file in files]
    for file, block, one, source in zip(files, blocks.values(), read, blocks, strict=True):
        _check_scores(task, file, one, block.get(task.metric), source)
        if one.ids != read[0].ids or not np.array_equal(_labels(file, one), _labels(files[0], read[0])):
            _mixed(file, f"not the rows of {files[0]}")
    return RunPredictions(
        ids=read[0].ids,
        predicted_SR=np.stack([one.predicted_R for one in read]),
        probabilities_SRC=np.stack([one.probabilities_RC for one in read]) if task.labels else None,  # type: ignore[misc]
        labels_R=_labels(files[0], read[0]),
        scores=tuple(block[task.metric] for block in blocks.values() if task.metric in block),
        status=next((str(block["status"]) for block in blocks.values() if "status" in block), ""),
    )


def _labels(file: Path, one: Predictions) -> Array:
    if one.labels_R is None:
        _mixed(file, "no labels, though there are scores of this split")
    return one.labels_R


def _check_scores(task: Task, file: Path, one: Predictions, stated: float | None, source: Path) -> None:
    """Checks that the metrics file was computed from these predictions."""
    found = score_predictions(task, one.predicted_R, _labels(file, one)).get(task.metric)
    if (found is None) != (stated is None) or abs((found or 0) - (stated or 0)) > AGREE:
        _mixed(file, f"its {task.metric} is {found}, but {source} says {stated}")


def _same_rows(predictions: Mapping[Place, RunPredictions]) -> None:
    """Checks that all runs of a split have the same rows, as a paired test needs."""
    for (task, split, run), one in predictions.items():
        own = predictions.get((task, split, task), one)
        if one.ids != own.ids or not np.array_equal(one.labels_R, own.labels_R):
            _mixed(Path(f"{task}-{split}.csv"), f"the runs '{task}' and '{run}' were scored on different rows")


def _mixed(file: Path, what: str) -> NoReturn:
    fail("C01", what, where=str(file), fix="run `dvc repro`; if that changes nothing, remove the file and run it again")
