"""A page about an exported model: what it answers, how well, what it was made from, and what it is not for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from yourbert.config.schema import SEEN_QUORA
from yourbert.core.storage import read_json, write_text
from yourbert.core.tasks import Task


def write_card(folder: Path, about: Mapping[str, Any], tasks: Mapping[str, Task], metrics: Path, use: str) -> None:
    """Writes README.md. about: model.json. metrics: the run's metrics file, whose scores are told if it is there."""
    scores = read_json(metrics) if metrics.is_file() else {}
    write_text(folder / "README.md", "\n\n".join(_blocks(about, tasks, scores, use)) + "\n")


def _blocks(about: Mapping[str, Any], tasks: Mapping[str, Task], scores: Mapping[str, Any], use: str) -> Iterator[str]:
    names = ", ".join(tasks)
    yield f"# {about['run']}, seed {about['seed']}: a BERT tailored to {names}"
    yield "## Use\n\n" + use
    yield "## What it answers"
    yield "\n".join(_answers(task) for task in tasks.values())
    yield "## How well"
    lines = [line for name, task in tasks.items() for line in _scores(task, scores.get(name, {}))]
    yield "\n".join(lines) if lines else "No scores were at hand when it was exported."
    yield "The best epoch was chosen on dev, which flatters dev scores a little."
    yield "## Made from"
    yield "\n".join(_lineage(about))
    yield "## Limits"
    yield (
        "It knows texts like those it was tailored to, in their language, cut at the lengths above. What a model of "
        "this kind says of people or for decisions about them has not been looked at. If it was tailored from "
        f"{SEEN_QUORA}, that model saw Quora question pairs, so scores on such pairs flatter it."
    )


def _answers(task: Task) -> str:
    reads = "a pair of texts" if task.pair else "a text"
    apart = ", each read by itself" if task.sequences_per_row == 2 else ""
    says = f"one of {', '.join(task.labels)}" if task.labels else f"a similarity from {task.low:g} to {task.high:g}"
    columns = f" ({', '.join(task.columns)})" if task.columns else ""
    return f"- **{task.name}**: for {reads}{columns}{apart}, {says}; at most {task.max_length} tokens."


def _scores(task: Task, of_splits: Mapping[str, Any]) -> Iterator[str]:
    for split, found in of_splits.items():
        if task.metric in found:
            low, high = (found.get(f"{task.metric}_{end}") for end in ("low", "high"))
            ends = f" ({low:.3f} to {high:.3f})" if low is not None and high is not None else ""
            yield f"- {task.name}, {split}: {task.metric} {found[task.metric]:.3f}{ends}"


def _lineage(about: Mapping[str, Any]) -> Iterator[str]:
    settings = ", ".join(f"{key} {value}" for key, value in about["training"].items())
    yield f"- code: git revision `{about['revision'] or 'unknown'}`"
    yield f"- encoder: sha256 `{about['encoder']}`"
    yield from (f"- tokens of {name}: sha256 `{digest}`" for name, digest in about["tokens"].items())
    yield f"- training: {settings}"
    outcome = about["outcome"]
    steps, tokens, best = (f"{outcome[key]:,}" for key in ("steps", "tokens", "best_epoch"))
    yield f"- {steps} steps over {tokens} tokens; the weights of epoch {best}"
