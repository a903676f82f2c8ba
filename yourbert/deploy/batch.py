"""Batch prediction: a model folder and an input in, one prediction per row out, as csv, tsv or JSON lines.

Rows are streamed in windows: a window is tokenized, predicted in batches of similar length, and written in the order of
the input before the next one is read. Memory therefore does not grow with the number of rows.
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
from yourbert.core.tasks import Quoting, Task
from yourbert.corpus.rows import row_chunks
from yourbert.deploy.inputs import STDIN, open_input
from yourbert.evaluation.explain import Explainer
from yourbert.evaluation.predictions import header, prediction_rows
from yourbert.inference.model_folder import load_model
from yourbert.inference.predict import Numbers, predict_texts
from yourbert.runtime.machine import Machine, prepare
from yourbert.runtime.progress import RowProgress
from yourbert.tokens.tokenizer import Tokenizer

logger = logging.getLogger("yourbert")
WINDOW_ROWS, WINDOW_CHARACTERS = 20_000, 20_000_000
MIN_TIMED_ROWS = 1000  # with fewer, start-up dominates the rows/s
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
    quoting: Quoting | None = None,
) -> None:
    """Predicts every row of `source` with the model in `folder`; writes to the file `out`, or to standard output.

    quoting: of a csv or tsv file, by default that of the task. A file is checked completely before anything is
    computed, and `out` appears only once it is complete.
    Raises UserError: C.. for the model folder, I.. and D.. for the input, P05 for `out`.
    """
    if out is not None:
        _check_output(out, source)
    machine = prepare_for_cli(runtime)
    model, tasks = load_model(folder, machine)
    task = select_task(tasks, task_name, folder)
    tokenizer = Tokenizer.load(folder)
    # None in a process that was started without a standard input.
    stdin = sys.stdin.buffer if sys.stdin else io.BytesIO()
    rows = open_input(source, task, columns, id_column, stdin, quoting)
    total = None if rows.name == "stdin" else sum(1 for _ in rows)
    progress, truncated = RowProgress(task.name, total), 0
    windows = row_chunks(rows, WINDOW_ROWS, WINDOW_CHARACTERS)
    first = next(windows, None)  # read before the header is written, so that its errors come first
    with open_output(out) as file:
        write = make_writer(file, task, out.suffix if out is not None else FORMATS[0])
        for window in chain([] if first is None else [first], windows):
            texts = [row.texts for row in window]
            outputs, truncated_S = predict_texts(model, task, tokenizer, texts, machine)
            write([row.id for row in window], outputs)
            file.flush()
            truncated += int(truncated_S.sum())
            progress.advance(len(window))
    progress.close()
    cut = f", {truncated} texts truncated to {task.max_length} tokens" if truncated else ""
    speed = f", {progress.speed():.0f} rows/s" if progress.rows >= MIN_TIMED_ROWS else ""
    logger.info("%s: %d rows%s%s", task.name, progress.rows, cut, speed)
    if rows.line_breaks.count:
        noted = (rows.name, rows.line_breaks.count, rows.line_breaks)
        logger.info("D36 %s: %d texts contain line breaks (lines %s)", *noted)


def _check_output(out: Path, source: str) -> None:
    """Refuses a format that cannot be written, and the input itself, which `out` would replace."""
    if out.suffix not in FORMATS:
        what = f"unknown format; the name must end in one of {', '.join(FORMATS)}"
        fail("P05", what, where=f"--out {out}", fix="write a name like predictions.csv")
    if source != STDIN and out.exists() and Path(source).exists() and out.samefile(source):
        fail("P05", "this is the input file, which would be overwritten", where=f"--out {out}", fix="name another file")


def prepare_for_cli(runtime: Runtime) -> Machine:
    """`prepare` for settings from the command line: its errors do not name params.yaml."""
    try:
        return prepare(runtime)
    except UserError as error:
        raise UserError(replace(problem, where="command line") for problem in error.problems) from None


def select_task(tasks: Mapping[str, Task], name: str | None, folder: Path, option: str = "--task {}") -> Task:
    """The task of that name, or the only one. option: how the caller names a task. Raises UserError (I06)."""
    if name is None and len(tasks) == 1:
        return next(iter(tasks.values()))
    if name is not None and name in tasks:
        return tasks[name]
    known = ", ".join(tasks)
    missing = f"the model has several tasks ({known}); name one"
    what = f"no task {quoted(name)} (the model has {known}){nearest(name, tasks)}" if name else missing
    fail("I06", what, where=str(folder), fix=f"add for instance `{option.format(next(iter(tasks)))}`")


@contextmanager
def open_output(out: Path | None) -> Iterator[TextIO]:
    """A text file to write to: `out`, which is replaced atomically at the end, or standard output."""
    if out is not None:
        with replacing(out) as part, part.open("w", encoding="utf-8", newline="") as file:
            yield file
        return
    if not sys.stdout:  # the process was started with it closed
        raise BrokenPipeError
    stream = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", newline="")
    try:
        yield stream
        stream.flush()
    finally:
        stream.detach()


def make_writer(file: TextIO, task: Task, suffix: str) -> Write:
    """Writes the header, if the format has one; returns the function that writes rows: (ids, outputs) -> None."""
    if suffix == ".jsonl":
        return lambda ids, outputs: file.writelines(json_lines(task, ids, outputs))
    table = csv.writer(file, delimiter="\t" if suffix == ".tsv" else ",", lineterminator="\n")
    table.writerow(_without_label(header(task)))
    return lambda ids, outputs: table.writerows(map(_without_label, prediction_rows(task, ids, outputs, None)))


def _without_label(cells: list[str]) -> list[str]:
    """Drops the column `label` of a prediction file: the labels are unknown."""
    return [cells[0], *cells[2:]]


def json_lines(task: Task, ids: Sequence[str], outputs: Numbers) -> Iterator[str]:
    for row_id, prediction in zip(ids, as_json(task, outputs), strict=True):
        yield json.dumps({"id": row_id, **prediction}, ensure_ascii=False) + "\n"


def as_json(task: Task, outputs: Numbers) -> Iterator[dict[str, Any]]:
    """Each row's prediction as a JSON object: `prediction`, and `probabilities` by label for a classification."""
    for _, _, prediction, *columns in prediction_rows(task, [""] * len(outputs), outputs, None):
        if task.kind == "similarity":
            yield {"prediction": float(prediction)}
        else:
            probabilities = {label: float(p) for label, p in zip(task.labels, columns, strict=True)}
            yield {"prediction": prediction, "probabilities": probabilities}


def open_explainer(folder: Path, task_name: str | None, machine: Machine) -> Explainer:
    """An explainer for one task of a model folder, in fp32. Raises UserError (C01, C12, I06)."""
    machine = replace(machine, dtype=torch.float32)
    model, tasks = load_model(folder, machine)
    return Explainer(model, select_task(tasks, task_name, folder), Tokenizer.load(folder), machine)
