"""A model folder and an input in; an answer for each row out, in the order of the rows, as csv or JSON lines.

The rows pass through in windows: a window's texts are packed, rows of like length are computed together, and their
order is restored before the next window is read. So a million rows take no more memory than the first window does.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

import torch

from yourbert.config.schema import Runtime
from yourbert.core.errors import UserError, fail, nearest, quoted
from yourbert.core.storage import replacing
from yourbert.core.tasks import Task
from yourbert.corpus.rows import chunks_of
from yourbert.deploy.inputs import open_input
from yourbert.evaluation.explain import Explainer
from yourbert.evaluation.predictions import header, prediction_rows
from yourbert.inference.model_folder import load_model
from yourbert.inference.predict import Numbers, predict_texts
from yourbert.runtime.machine import Machine, prepare
from yourbert.runtime.progress import RowProgress
from yourbert.tokens.tokenizer import Tokenizer

LOGGER = logging.getLogger("yourbert")
WINDOW_ROWS, WINDOW_CHARACTERS = 20_000, 20_000_000
WORTH_TIMING = 1000  # rows; of fewer, the time says more about the start
FORMATS = (".csv", ".tsv", ".jsonl")

Write = Callable[[Sequence[str], Numbers], None]


def batch_predict(
    folder: Path,
    source: str,
    *,
    task_name: str | None,
    columns: Sequence[str],
    id_column: str | None,
    out: Path | None,
    runtime: Runtime,
) -> None:
    """Answers every row of `source` with the model in `folder`, to the file `out`, else to the standard output.

    A file is read through before anything is computed, so that a bad row in it is named at once; `out` gets its name
    when the last answer is in it. Raises UserError (C.. model folder, I.. and D.. input, P05 name of `out`).
    """
    if out is not None and out.suffix not in FORMATS:
        fail(
            "P05", f"the name ends in none of {' '.join(FORMATS)}", where=str(out), fix="write a name like answers.csv"
        )
    machine = prepared(runtime)
    model, tasks = load_model(folder, machine)
    task = chosen(tasks, task_name, folder)
    tokenizer = Tokenizer.load(folder)
    # The standard input is None in a process that was started without one.
    stdin = sys.stdin.buffer if sys.stdin else io.BytesIO()
    rows = open_input(source, task, columns, id_column, stdin)
    total = None if rows.name == "stdin" else sum(1 for _ in rows)
    progress, cut = RowProgress(task.name, total), 0
    windows = chunks_of(rows, WINDOW_ROWS, WINDOW_CHARACTERS)
    first = next(windows, None)  # so that what is wrong with it is told before a heading is written
    with opened_output(out) as file:
        write = writer(file, task, out.suffix if out is not None else FORMATS[0])
        for window in chain([] if first is None else [first], windows):
            texts = [row.texts for row in window]
            outputs, cut_S = predict_texts(model, task, tokenizer, texts, machine)
            write([row.id for row in window], outputs)
            file.flush()
            cut += int(cut_S.sum())
            progress.advance(len(window))
    progress.close()
    shortened_too = f", {cut} texts cut at {task.max_length} tokens" if cut else ""
    speed = f", {progress.speed():.0f} rows/s" if progress.rows >= WORTH_TIMING else ""
    LOGGER.info("%s: %d rows%s%s", task.name, progress.rows, shortened_too, speed)


def prepared(runtime: Runtime) -> Machine:
    """`prepare` for settings that come from the command line, not from params.yaml."""
    try:
        return prepare(runtime)
    except UserError as error:
        raise UserError(replace(problem, where="command line") for problem in error.problems) from None


def chosen(tasks: Mapping[str, Task], name: str | None, folder: Path) -> Task:
    """The task of that name, or the only one. Raises UserError (I06)."""
    if name is None and len(tasks) == 1:
        return next(iter(tasks.values()))
    if name is not None and name in tasks:
        return tasks[name]
    has = f"the model has {', '.join(tasks)}"
    what = f"no task {quoted(name)}: {has}{nearest(name, tasks)}" if name else f"{has}: which of them?"
    fail("I06", what, where=str(folder), fix=f"add for instance `--task {next(iter(tasks))}`")


@contextmanager
def opened_output(out: Path | None) -> Iterator[TextIO]:
    """A text file to write answers to: `out`, placed whole or not at all, or the standard output."""
    if out is not None:
        with replacing(out) as part, part.open("w", encoding="utf-8", newline="") as file:
            yield file
        return
    if not sys.stdout:  # started with it closed: nobody reads
        raise BrokenPipeError
    stream = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", newline="")
    try:
        yield stream
        stream.flush()
    finally:
        stream.detach()


def writer(file: TextIO, task: Task, suffix: str) -> Write:
    """Writes the heading, if the format has one, and returns what writes the answers of rows."""
    if suffix == ".jsonl":
        return lambda ids, outputs: file.writelines(json_lines(task, ids, outputs))
    table = csv.writer(file, delimiter="\t" if suffix == ".tsv" else ",", lineterminator="\n")
    table.writerow(_without_label(header(task)))
    return lambda ids, outputs: table.writerows(map(_without_label, prediction_rows(task, ids, outputs, None)))


def _without_label(cells: list[str]) -> list[str]:
    """A line of a prediction file without its second column, which here nobody knows."""
    return [cells[0], *cells[2:]]


def json_lines(task: Task, ids: Sequence[str], outputs: Numbers) -> Iterator[str]:
    for row_id, answer in zip(ids, as_json(task, outputs), strict=True):
        yield json.dumps({"id": row_id, **answer}, ensure_ascii=False) + "\n"


def as_json(task: Task, outputs: Numbers) -> Iterator[dict[str, Any]]:
    """What stands in a prediction file about each row, as JSON will hold it."""
    for _, _, prediction, *shares in prediction_rows(task, [""] * len(outputs), outputs, None):
        if task.kind == "similarity":
            yield {"prediction": float(prediction)}
        else:
            probabilities = {label: float(p) for label, p in zip(task.labels, shares, strict=True)}
            yield {"prediction": prediction, "probabilities": probabilities}


def open_explainer(folder: Path, task_name: str | None, machine: Machine) -> Explainer:
    """For one task of a model folder, in fp32. Raises UserError (C01, C12, I06)."""
    machine = replace(machine, dtype=torch.float32)
    model, tasks = load_model(folder, machine)
    return Explainer(model, chosen(tasks, task_name, folder), Tokenizer.load(folder), machine)
