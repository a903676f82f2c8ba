"""The description of a task, which travels from params.yaml through the tokens into every model folder.

A task takes one text or a pair of texts and predicts a class or a number in a range. Its description is fixed when the
task is tokenized and stored in the model folder, so that no later step can disagree.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from yourbert.core.errors import fail

Kind = Literal["classification", "similarity"]
PairEncoding = Literal["cross", "bi"]
Pooling = Literal["cls", "mean"]
TruncationSide = Literal["right", "left", "middle"]  # the part of a long text that is cut off
Quoting = Literal["standard", "none"]  # whether quotes enclose fields, or are plain characters
Metric = Literal["accuracy", "macro_f1", "mcc", "pearson", "spearman"]
Split = Literal["train", "dev", "test"]

REPRO = "remove it and run `dvc repro`"
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
METRICS: dict[Kind, tuple[Metric, ...]] = {
    "classification": ("accuracy", "macro_f1", "mcc"),
    "similarity": ("pearson", "spearman"),
}


@dataclass(frozen=True, kw_only=True)
class Task:
    """The description of a task, as `tokenize` fixed it.

    labels: the class names in the order of their indices; empty for similarity.
    low, high: the ends of the similarity scale; 0 and 1 for classification.
    pair: whether a row has two texts. encoding: "cross" encodes both as one input, "bi" as two.
    metric: the score that chooses the best checkpoint and comes first in the report.
    columns, id_column, quoting: the column names of the texts and the id, and the quoting, with which predict reads
    further tables of this kind; nothing else depends on them, and older folders have none.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    low: float
    high: float
    pair: bool
    encoding: PairEncoding
    metric: Metric
    max_length: int
    truncation_side: TruncationSide
    columns: tuple[str, ...] = field(default=(), compare=False)
    id_column: str | None = field(default=None, compare=False)
    quoting: Quoting = field(default="standard", compare=False)

    @property
    def sequences_per_row(self) -> int:
        return 2 if self.pair and self.encoding == "bi" else 1

    @property
    def outputs(self) -> int:
        """Outputs of the model per row: one logit per class, or one similarity."""
        return len(self.labels) if self.kind == "classification" else 1

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, facts: object, where: str = "") -> Task:
        """The inverse of `to_json`. Raises UserError (C01) if the values do not describe a task."""
        from pydantic import TypeAdapter, ValidationError

        try:
            task = TypeAdapter(cls).validate_python(facts)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            fail("C01", f"the description of the task is invalid: {key}: {first['msg']}", where=where, fix=REPRO)
        if task.kind == "classification" and len(task.labels) < 2:
            fail("C01", f"the classification '{task.name}' has fewer than two labels", where=where, fix=REPRO)
        return task


def normalised(metric: Metric, score: float) -> float:
    """A score scaled to 0..1, so that scores of several tasks can be averaged; correlations come from -1..1."""
    return score if metric in ("accuracy", "macro_f1") else (score + 1) / 2


def share(metric: Metric) -> float:
    """The weight of one point of this metric in a mean over tasks: a half for a correlation."""
    return normalised(metric, 1.0) - normalised(metric, 0.0)
