"""The `check` stage: reads all parameters and all local data before any output is replaced.

DVC removes a stage's outputs before it runs the stage, so a mistake that only a later stage found would cost a trained
model. The resulting plan names the files that the corpus must have; later stages rerun only if the plan changes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from yourbert.config.limits import limits_of
from yourbert.config.schema import BUNDLED, CS224N, Params, TaskData
from yourbert.core.errors import Problem, UserError, fail, nearest
from yourbert.core.filenames import is_url, local_names
from yourbert.core.passages import read_passages
from yourbert.core.paths import located
from yourbert.core.storage import sha256_of
from yourbert.core.tasks import SPLITS, Split
from yourbert.corpus.leakage import text_hashes
from yourbert.corpus.rows import SplitRows, check_file, row_chunks
from yourbert.corpus.statistics import SplitStatistics, check_leakage


def corpus_files(params: Params) -> dict[str, bool]:
    """The corpus files that the tasks name, and whether each one is required; a test file is not."""
    required: dict[str, bool] = {}
    for _, split, name in _files(params):
        required[name] = required.get(name, False) or split != "test"
    return required


def _files(params: Params) -> Iterator[tuple[str, Split, str]]:
    for task, block in params.tasks.items():
        for split in SPLITS:
            if name := getattr(block.data, split):
                yield task, split, name


def check(params: Params, bundled: Path) -> dict[str, Any]:
    """Checks the local corpus files row by row and returns the plan: the files by name, with hashes of local ones.

    Raises one UserError with all problems (D codes), or P15 for a folder or an extra text that does not exist.
    """
    folder = local_corpus(params.corpus, bundled)
    plan: dict[str, Any] = {"wanted": corpus_files(params), "limits": limits_of(params)}
    local_names(plan["wanted"])
    if params.pretrain.enabled and params.pretrain.extra_text:
        for _ in read_passages(located(params.pretrain.extra_text)):
            pass
    if folder is None:
        return plan
    try:
        names = os.listdir(folder)
    except OSError as error:
        what = f"the folder of the corpus cannot be read ({error.strerror})"
        fail("D29", what, where=str(folder), fix="change its permissions, or name another folder in `corpus`")
    problems: list[Problem] = []
    present: dict[str, str] = {}
    for task, split, name in _files(params):
        path = folder / name
        if is_url(name) or (split == "test" and not path.exists()):
            continue
        if not os.path.lexists(path):
            what = f"no file '{name}' in {folder}{nearest(name, names)}"
            where = f"params.yaml: tasks.{task}.data.{split}"
            problems.append(Problem("D29", what, where, "correct the name or add the file"))
            continue
        of_file = check_file(path, task, params.tasks[task].data, split)
        problems += of_file
        if not of_file:
            present[name] = sha256_of(path)
    if problems:
        raise UserError(problems)
    for name, block in params.tasks.items():
        if block.data.on_leakage == "error":
            check_leakage(name, block.data, _statistics(name, block.data, folder))
    return {**plan, "sha256": present}


def _statistics(name: str, data: TaskData, folder: Path) -> dict[Split, SplitStatistics]:
    """The texts of a task's local files, to compare its splits."""
    task, found = data.to_task(name), dict[Split, SplitStatistics]()
    for split in SPLITS:
        file = getattr(data, split)
        if file is None or is_url(file) or not (folder / file).exists():
            continue
        rows = SplitRows(folder / file, name, data, split)
        found[split] = SplitStatistics(rows.path, task, rows.has_labels, ())
        for chunk in row_chunks(rows):
            found[split].add(chunk, np.zeros(0, np.int64), text_hashes(row.texts for row in chunk))
        found[split].finalize(rows.counts)
    return found


def local_corpus(corpus: str, bundled: Path) -> Path | None:
    """The folder of a corpus that is on this machine; None for one that must be downloaded."""
    if corpus == CS224N:
        return None
    return bundled if corpus == BUNDLED else located(corpus)
