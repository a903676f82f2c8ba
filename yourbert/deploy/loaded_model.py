"""The Python interface: `yourbert.load` opens a model folder, `LoadedModel` predicts and explains.

Predictions are those of `yourbert predict`: the same tokens, batches and rounding.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from yourbert.config.schema import Runtime
from yourbert.core.errors import SHOWN_PER_FILE, Problem, UserError, fail
from yourbert.core.tasks import Task
from yourbert.core.text import is_empty, is_text
from yourbert.corpus.rows import row_chunks
from yourbert.deploy.batch import WINDOW_CHARACTERS, WINDOW_ROWS, as_json, select_task
from yourbert.deploy.inputs import InputRow
from yourbert.evaluation.explain import Explainer, Explanation
from yourbert.evaluation.predictions import header
from yourbert.inference.model_folder import load_fp32, load_model
from yourbert.inference.predict import predict_texts
from yourbert.runtime.machine import prepare
from yourbert.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Classification:
    """The prediction of a classification task for one row.

    label: the most probable label. probability: its probability, 0 to 1. probabilities: that of every label.
    """

    label: str
    probability: float
    probabilities: Mapping[str, float]


@dataclass(frozen=True)
class Similarity:
    """The prediction of a similarity task for one pair. value: on the task's scale, for instance 0 to 5."""

    value: float


def load(
    folder: str | os.PathLike[str],
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    num_threads: int = 0,
) -> LoadedModel:
    """Loads a model folder, for instance build/models/sst/11711.

    device: "auto" uses a GPU if there is one. precision: "auto" uses bf16 where the device computes faster in it.
    num_threads: CPU threads, 0 for one per physical core. They are set for the whole process, as PyTorch has it.
    Raises UserError for a folder that is not a complete model folder, or a device that does not exist.
    """
    runtime = Runtime(device=device, precision=precision, num_threads=num_threads, deterministic=False)
    return LoadedModel(Path(folder), runtime)


class LoadedModel:
    """A model folder in memory, as `load` returns it. Calls from several threads run one after the other."""

    def __init__(self, folder: Path, runtime: Runtime) -> None:
        try:
            self._machine = prepare(runtime)
        except UserError as error:
            raise UserError(replace(problem, where="load") for problem in error.problems) from None
        self._folder = folder
        self._model, self._tasks = load_model(folder, self._machine)
        self._tokenizer = Tokenizer.load(folder)
        self._explainers: dict[str, Explainer] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<yourbert model {self._folder}: {', '.join(self._tasks)}>"

    @property
    def tasks(self) -> list[str]:
        """The names of the model's tasks."""
        return list(self._tasks)

    def labels(self, task: str | None = None) -> list[str]:
        """The labels of a classification task, in the order of their class indices; empty for a similarity task."""
        return list(self._task(task).labels)

    def predict(self, texts: Any, task: str | None = None) -> list[Classification] | list[Similarity] | pd.DataFrame:
        """Predicts every row; the results have the order of the rows.

        texts: a list, tuple or array of strings, or of pairs of strings for a task that reads pairs; a pandas Series of
        strings; or a DataFrame that has the text columns of the task, or has no other columns than the texts.
        task: the task to use, required if the model has several.

        Returns a list of `Classification` or `Similarity`. For pandas input returns a DataFrame with the same index
        and the columns `prediction` and, for a classification, `p_<label>`. An empty input gives an empty result.
        Long texts are truncated as in training. Raises UserError that names every row that is not a text, or is empty.
        """
        described = self._task(task)
        rows = list(_rows(texts, described))
        predictions: list[dict[str, Any]] = []
        with self._lock:
            for window in row_chunks(rows, WINDOW_ROWS, WINDOW_CHARACTERS):
                outputs, _ = predict_texts(
                    self._model, described, self._tokenizer, [row.texts for row in window], self._machine
                )
                predictions += as_json(described, outputs)
        if _is_pandas(texts):
            return _frame(texts, described, predictions)
        if described.kind == "similarity":
            return [Similarity(one["prediction"]) for one in predictions]
        return [
            Classification(one["prediction"], one["probabilities"][one["prediction"]], one["probabilities"])
            for one in predictions
        ]

    def explain(self, text: str | tuple[str, str], task: str | None = None) -> Explanation:
        """Computes how much each word contributes to the prediction for one text, or one pair (integrated gradients).

        task: the task to use, required if the model has several. This takes much longer than `predict`, because it
        computes gradients. Raises UserError as `predict` does.
        """
        described = self._task(task)
        (row,) = _rows([text], described)
        with self._lock:
            if described.name not in self._explainers:
                model, machine = load_fp32(self._folder, self._machine, self._model)
                explainer = Explainer(model, described, self._tokenizer, machine)
                self._explainers[described.name] = explainer
            return self._explainers[described.name].explain(row.texts)

    def _task(self, name: str | None) -> Task:
        return select_task(self._tasks, name, self._folder, option='task="{}"')


def _rows(texts: Any, task: Task) -> Iterator[InputRow]:
    """The checked rows. Raises one UserError (I01, I04, D08) for all that are wrong."""
    wanted = "a pair of strings" if task.pair else "a string"
    problems: list[Problem] = []
    for number, value in enumerate(_values(texts, task)):
        parts = tuple(value) if task.pair and not isinstance(value, str) and _is_sequence(value) else (value,)
        where = f"row {number}"
        if len(parts) != 1 + task.pair:
            shown = f"{len(parts)} strings" if len(parts) > 1 else f"a {type(value).__name__}"
            problems.append(Problem("I04", f"{shown}, but task '{task.name}' reads {wanted}", where))
        elif wrong := [part for part in parts if not isinstance(part, str)]:
            missing = wrong[0] is None or wrong[0] != wrong[0]
            what = "the text is missing" if missing else f"a {type(wrong[0]).__name__}, but the task reads {wanted}"
            problems.append(Problem("I04", what, where, "drop the row, or convert it to str"))
        elif any(map(is_empty, parts)):
            problems.append(Problem("I01", "the text is empty", where, "add a text, or drop the row"))
        elif not all(map(is_text, parts)):
            problems.append(Problem("D08", "the text has a lone surrogate", where, "check how it was decoded"))
        elif not problems:
            yield InputRow(number, str(number), cast(Sequence[str], parts))
    if problems:
        raise UserError(problems[:SHOWN_PER_FILE], len(problems))


def _values(texts: Any, task: Task) -> Sequence[Any]:
    """One value per row: a text, or the texts of a pair."""
    if isinstance(texts, str) or not (_is_sequence(texts) or _is_pandas(texts)):
        kind = "one str" if isinstance(texts, str) else f"a {type(texts).__name__}"
        fail("I04", f"expected a list of texts, got {kind}", where="texts", fix="write predict([text])")
    if not hasattr(texts, "columns"):
        return list(texts)
    columns = list(texts.columns)
    chosen = list(task.columns) if set(task.columns) <= set(columns) and task.columns else columns
    if len(chosen) != 1 + task.pair:
        known = ", ".join(map(str, columns))
        reads = "two text columns" if task.pair else "one text column"
        what = f"task '{task.name}' reads {reads} ({', '.join(task.columns)}), and the frame has {known}"
        fail("I04", what, where="texts", fix=f"select the {reads} with df[[...]]")
    # By position, since a frame may name two columns alike.
    return list(zip(*(texts[name] for name in chosen), strict=True)) if task.pair else list(texts[chosen[0]])


def _is_sequence(value: Any) -> bool:
    """Lists, tuples, arrays: what has a length and an order."""
    return hasattr(value, "__len__") and hasattr(value, "__getitem__") and not isinstance(value, bytes | Mapping)


def _is_pandas(value: Any) -> bool:
    """Whether it is a Series or a DataFrame; pandas itself is not needed for that."""
    return type(value).__module__.partition(".")[0] == "pandas" and hasattr(value, "index")


def _frame(texts: Any, task: Task, predictions: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    rows = [[one["prediction"], *one.get("probabilities", {}).values()] for one in predictions]
    return pd.DataFrame(rows, index=texts.index, columns=["prediction", *header(task)[3:]])
