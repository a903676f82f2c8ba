"""The model card of an exported model: what it predicts, how well, how it was made, and its limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from yourbert.config.schema import PRETRAINED_ON_QUORA
from yourbert.core.storage import read_json, write_text
from yourbert.core.tasks import Task


def write_card(folder: Path, about: Mapping[str, Any], tasks: Mapping[str, Task], metrics: Path, usage: str) -> None:
    """Writes README.md. about: model.json. metrics: the run's metrics file, which may be missing."""
    scores = read_json(metrics) if metrics.is_file() else {}
    write_text(folder / "README.md", "\n\n".join(_sections(about, tasks, scores, usage)) + "\n")


def _sections(
    about: Mapping[str, Any], tasks: Mapping[str, Task], scores: Mapping[str, Any], usage: str
) -> Iterator[str]:
    names = ", ".join(tasks)
    yield f"# {about['run']}, seed {about['seed']}: BERT fine-tuned on {names}"
    yield "## Usage\n\n" + usage
    yield "## Tasks"
    yield "\n".join(_task_line(task) for task in tasks.values())
    yield "## Evaluation"
    lines = [line for name, task in tasks.items() for line in _scores(task, scores.get(name, {}))]
    yield "\n".join(lines) if lines else "No metrics file was found at export."
    yield "The best epoch was selected on dev, which slightly inflates dev scores."
    yield "## Training"
    yield "\n".join(_lineage(about))
    yield "## Limits"
    yield (
        "The model is meant for texts similar to its training data, in the same language, truncated to the lengths "
        "above. Its biases have not been studied; do not use it for decisions about people. If the base model is "
        f"{PRETRAINED_ON_QUORA}, which was trained on Quora question pairs, scores on such pairs are inflated."
    )


def _task_line(task: Task) -> str:
    reads = "a pair of texts" if task.pair else "a text"
    separate = ", encoded separately" if task.sequences_per_row == 2 else ""
    predicts = f"one of {', '.join(task.labels)}" if task.labels else f"a similarity from {task.low:g} to {task.high:g}"
    columns = f" ({', '.join(task.columns)})" if task.columns else ""
    return f"- **{task.name}**: for {reads}{columns}{separate}, {predicts}; at most {task.max_length} tokens."


def _scores(task: Task, splits: Mapping[str, Any]) -> Iterator[str]:
    for split, scores in splits.items():
        if task.metric in scores:
            low, high = (scores.get(f"{task.metric}_{end}") for end in ("low", "high"))
            ends = f" ({low:.3f} to {high:.3f})" if low is not None and high is not None else ""
            yield f"- {task.name}, {split}: {task.metric} {scores[task.metric]:.3f}{ends}"


def _lineage(about: Mapping[str, Any]) -> Iterator[str]:
    settings = ", ".join(f"{key} {value}" for key, value in about["training"].items())
    yield f"- code: git revision `{about['revision'] or 'unknown'}`"
    yield f"- encoder: sha256 `{about['encoder']}`"
    yield from (f"- tokens of {name}: sha256 `{digest}`" for name, digest in about["tokens"].items())
    yield f"- training: {settings}"
    outcome = about["outcome"]
    steps, tokens, best = (f"{outcome[key]:,}" for key in ("steps", "tokens", "best_epoch"))
    yield f"- {steps} steps over {tokens} tokens; the weights of epoch {best}"
