"""The `tokenize` stage: makes checked rows and packed tokens of a task's files, and statistics of the rows."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from yourbert.config.limits import check_limits
from yourbert.config.schema import TaskData
from yourbert.core.errors import Problem, UserError, nearest
from yourbert.core.filenames import local_name
from yourbert.core.storage import write_array, write_json
from yourbert.core.tasks import SPLITS, Split, Task
from yourbert.corpus.rows import SplitRows
from yourbert.corpus.statistics import SplitStatistics, TokenCounts, check_leakage, split_warnings, task_statistics
from yourbert.tokens.packing import Encoded, SplitWriter
from yourbert.tokens.tokenizer import Tokenizer
from yourbert.tokens.workers import encode_in_order, number_of_workers

logger = logging.getLogger("yourbert")


def tokenize_task(
    name: str, data: TaskData, corpus: Path, base: Path, out: Path, num_threads: int = 1
) -> dict[str, Any]:
    """Tokenizes the task's files in `corpus` into the folder `out` for `open_tokens`; returns their statistics.

    base: the folder of the model whose vocabulary is used. num_threads: processes that encode a large file, 0 for one
    per physical core; the result is the same, byte for byte, for any number. Raises one UserError with the problems of
    all files (D codes), or P08 if `max_length` is more than the model has positions.
    """
    check_limits({f"tasks.{name}.data.max_length": data.max_length}, base)
    task = data.to_task(name)
    tokenizer, workers = Tokenizer.load(base), number_of_workers(num_threads)
    statistics: dict[Split, SplitStatistics] = {}
    failures: list[UserError] = []
    files, warnings = find_files(data, corpus)
    (out / "task.json").unlink(missing_ok=True)
    for split in SPLITS:
        shutil.rmtree(out / split, ignore_errors=True)
    for split, path in files.items():
        try:
            rows = SplitRows(path, name, data, split)
            statistics[split] = _tokenize_split(rows, task, tokenizer, base, workers, out / split)
        except UserError as error:
            failures.append(error)
    raise_all(failures)
    _log_columns(statistics)
    warnings += split_warnings(task, statistics) + check_leakage(name, data, statistics)
    for warning in warnings:
        logger.info("%s: %s", name, warning)
    write_json(
        out / "task.json",
        task.to_json() | {"vocabulary_sha256": tokenizer.sha256, "lower_case": tokenizer.lower_case},
    )
    return task_statistics(task, statistics, warnings) | {"vocabulary_sha256": tokenizer.sha256}


def find_files(data: TaskData, corpus: Path) -> tuple[dict[Split, Path], list[str]]:
    """The file of each split, and a warning if the test file is missing (`SplitRows` reports train and dev)."""
    files: dict[Split, Path] = {"train": corpus / local_name(data.train), "dev": corpus / local_name(data.dev)}
    if data.test is None:
        return files, []
    if (path := corpus / local_name(data.test)).exists():
        return files | {"test": path}, []
    others = [p.name for p in corpus.glob("*")]
    return files, [f"D29 no test file {data.test}: the task has no test split{nearest(data.test, others)}"]


def raise_all(failures: list[UserError]) -> None:
    """Raises the problems of all files as one UserError, if there are any."""
    problems: list[Problem] = [problem for failure in failures for problem in failure.problems]
    if problems:
        raise UserError(problems, sum(failure.total for failure in failures))


def _tokenize_split(
    rows: SplitRows, task: Task, tokenizer: Tokenizer, base: Path, workers: int, folder: Path
) -> SplitStatistics:
    statistics = SplitStatistics(rows.path, task, rows.has_labels, tuple(rows.table.columns))
    with (
        SplitWriter(folder, task, tokenizer.vocabulary_size, rows.has_labels) as writer,
        closing(encode_in_order(rows, tokenizer, task, base, workers)) as encoded,
    ):
        for chunk, (sequences, texts_N) in encoded:
            writer.append((row.id for row in chunk), [row.label for row in chunk], sequences)
            statistics.add(chunk, sequences.full_lengths_S, texts_N, _count_tokens(sequences, tokenizer))
    statistics.finalize(rows.counts)
    write_array(folder / "texts.npy", statistics.texts_U)
    return statistics


def _count_tokens(encoded: Encoded, tokenizer: Tokenizer) -> TokenCounts:
    """Counts what is left of the texts after truncation, without special tokens."""
    special_S = np.where(encoded.second_S < encoded.lengths_S, 3, 2)
    words_S = encoded.lengths_S - special_S
    unknown = int(np.count_nonzero(encoded.tokens_T == tokenizer.unk_id))
    return TokenCounts(int(words_S.sum()), unknown, int(np.count_nonzero(words_S == 0)))


def _log_columns(statistics: Mapping[Split, SplitStatistics]) -> None:
    """Logs a message (D25) if the files differ in the number or order of their columns."""
    if len({split.columns for split in statistics.values()}) > 1:
        files = ", ".join(split.path.name for split in statistics.values())
        logger.info("D25 %s: columns differ in number or order; they are read by name", files)
