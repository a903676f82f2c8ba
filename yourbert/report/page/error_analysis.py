"""Error analysis on the dev rows: their texts, slices by kind of text, scores by slice, and loss by row.

Shapes: S seeds, R rows, C classes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from yourbert.config.schema import TaskData
from yourbert.core.errors import fail
from yourbert.core.filenames import local_name
from yourbert.core.seeding import rng_for
from yourbert.core.tasks import Split, Task
from yourbert.corpus.rows import SplitRows
from yourbert.evaluation.metrics import RESAMPLING, Array, interval, row_losses, score_predictions
from yourbert.evaluation.significance import resampled_means
from yourbert.report.load import RunPredictions

Mask = npt.NDArray[np.bool_]
WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)?")
NEGATION = re.compile(
    r"\b(?:no|not|never|none|nothing|nobody|neither|nor|without|cannot|hardly|barely|lacks?)\b|n['\u2019]t\b",
    re.IGNORECASE,
)
CONTRAST = re.compile(
    r"\b(?:but|however|although|though|yet|despite|while|whereas|nevertheless|still|instead)\b", re.IGNORECASE
)
RARE = 2  # words that train has fewer times than this are rare
LEAST = 10  # rows that a slice needs for a score


@dataclass(frozen=True)
class DevRows:
    """texts: one or two for each row. slices: name -> mask_R of the rows in it."""

    texts: Sequence[Sequence[str]]
    slices: Mapping[str, Mask]


def dev_rows(task: Task, data: TaskData, corpus: Path, predictions: RunPredictions) -> DevRows:
    """Reads the dev rows of a task. Raises UserError (C01) if they are not the rows of the predictions."""
    rows = list(_rows(task, data, corpus, "dev"))
    if tuple(row_id for row_id, _ in rows) != predictions.ids:
        fail("C01", "the dev file does not match the predictions", where=str(corpus), fix="run `dvc repro`")
    seen = Counter(word for _, texts in _rows(task, data, corpus, "train") for word in words(texts))
    texts = [texts for _, texts in rows]
    return DevRows(texts, dict(slices(texts, seen)))


def _rows(task: Task, data: TaskData, corpus: Path, split: Split) -> Iterator[tuple[str, Sequence[str]]]:
    name = data.train if split == "train" else data.dev
    for row in SplitRows(corpus / local_name(name), task.name, data, split):
        yield row.id, row.texts


def words(texts: Sequence[str]) -> list[str]:
    return [word for text in texts for word in WORD.findall(text.lower())]


def is_negated(texts: Sequence[str]) -> bool:
    return any(NEGATION.search(text) for text in texts)


def slices(texts: Sequence[Sequence[str]], seen: Counter[str]) -> Iterator[tuple[str, Mask]]:
    """Slices that are often hard for models. seen: how often train has each word."""
    lengths_R = np.array([len(words(row)) for row in texts])
    low, high = np.quantile(lengths_R, [1 / 3, 2 / 3])
    yield f"short (up to {low:.0f} words)", lengths_R <= low
    yield f"long (more than {high:.0f} words)", lengths_R > high
    yield "with a negation", np.array([is_negated(row) for row in texts])
    yield "with a contrast (but, although, ..)", np.array([any(CONTRAST.search(text) for text in row) for row in texts])
    yield "with a word that is rare in train", np.array([any(seen[w] < RARE for w in words(row)) for row in texts])
    if texts and len(texts[0]) == 2:
        shared_R = np.array([_overlap(*row) for row in texts])
        low, high = np.quantile(shared_R, [1 / 3, 2 / 3])
        yield f"few words in common (up to {low:.0%})", shared_R <= low
        yield f"many words in common (more than {high:.0%})", shared_R > high


def _overlap(first: str, second: str) -> float:
    """The Jaccard overlap of a pair: words in both texts over words in either."""
    one, two = set(words([first])), set(words([second]))
    return len(one & two) / max(1, len(one | two))


@dataclass(frozen=True)
class SliceScore:
    name: str
    rows: int
    score: float
    low: float
    high: float
    rest: float | None


def slice_scores(
    task: Task, rows: DevRows, predictions: RunPredictions, resamples: int, confidence: float
) -> list[SliceScore]:
    """The mean score over seeds on each slice of enough rows, its interval, and the score on all other rows."""
    found = []
    for name, mask_R in rows.slices.items():
        if (score := _mean(task, predictions, mask_R)) is not None:
            draws = resampled_means(
                task.metric, predictions.predicted_SR[:, mask_R], predictions.labels_R[mask_R],
                classes=len(task.labels), resamples=resamples, generator=rng_for(RESAMPLING, "slice", task.name, name),
            )  # fmt: skip
            low, high = interval(draws, confidence) or (score, score)
            found.append(SliceScore(name, int(mask_R.sum()), score, low, high, _mean(task, predictions, ~mask_R)))
    return found


def _mean(task: Task, predictions: RunPredictions, mask_R: Mask) -> float | None:
    if mask_R.sum() < LEAST:
        return None
    scores = [
        score_predictions(task, one_R[mask_R], predictions.labels_R[mask_R]) for one_R in predictions.predicted_SR
    ]
    values = [one[task.metric] for one in scores if task.metric in one]
    return float(np.mean(values)) if len(values) == len(scores) else None


def mean_loss(task: Task, predictions: RunPredictions) -> Array:
    """The loss of each row, the mean over seeds."""
    outputs = predictions.predicted_SR if predictions.probabilities_SRC is None else predictions.probabilities_SRC
    return np.asarray(np.mean([row_losses(task, one, predictions.labels_R) for one in outputs], axis=0))
