"""The model folder that is served: loaded once, and watched for changes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from yourbert.core.errors import UserError
from yourbert.core.storage import MANIFEST, check_manifest, sha256_of
from yourbert.core.tasks import Task
from yourbert.deploy.batch import as_json
from yourbert.deploy.serve.queue import MAX_BATCH_ROWS, Texts
from yourbert.evaluation.explain import Explainer
from yourbert.inference.model_folder import load_fp32, load_model
from yourbert.inference.predict import TOKENS_PER_BATCH, predict_texts
from yourbert.runtime.machine import Machine, release_memory
from yourbert.tokens.tokenizer import Tokenizer

# Batches of varying sizes fragment the memory of the allocator; returning free blocks now and then bounds it.
RELEASE_INTERVAL_S = 10.0


class ServedModel:
    """A model folder as it was when it was loaded. Raises UserError (C01, C12) for an incomplete or damaged folder.

    id: the first 12 digits of the sha256 of its manifest; every response contains it.
    """

    def __init__(self, folder: Path, machine: Machine) -> None:
        self.folder, self.machine = folder, machine
        self.model, self.tasks = load_model(folder, machine)
        self.tokenizer = Tokenizer.load(folder)
        self.id = self._id()
        model, exact = load_fp32(folder, machine, self.model)
        self.explainers = {name: Explainer(model, task, self.tokenizer, exact) for name, task in self.tasks.items()}
        self._signature = self._stat_files()
        self._release_at = 0.0
        self._warm()

    def predict(self, name: str, rows: Sequence[Texts]) -> list[dict[str, Any]]:
        """For each row the prediction as of `yourbert predict`, and `truncated`: whether a text of it was truncated."""
        if time.monotonic() > self._release_at:
            release_memory()
            self._release_at = time.monotonic() + RELEASE_INTERVAL_S
        task: Task = self.tasks[name]
        outputs, cut_S = predict_texts(self.model, task, self.tokenizer, rows, self.machine)
        truncated_R: list[bool] = cut_S.reshape(len(rows), -1).max(axis=1).tolist()
        return [
            {**row, "truncated": truncated} for row, truncated in zip(as_json(task, outputs), truncated_R, strict=True)
        ]

    def explain(self, name: str, rows: Sequence[Texts]) -> list[dict[str, Any]]:
        """For each row what `yourbert explain --json` prints."""
        return [asdict(self.explainers[name].explain(row)) for row in rows]

    def stale(self) -> str:
        """Why the folder differs from the served model, or "". Hashes the files only when their stat changed."""
        try:
            if (signature := self._stat_files()) != self._signature:
                check_manifest(self.folder)
                if self._id() != self.id:
                    return "the folder contains another model now; restart the server to serve it"
                self._signature = signature
        except (UserError, OSError):
            return "the folder is damaged or incomplete; the model loaded before is still served"
        return ""

    def _warm(self) -> None:
        """Computes full batches, so that kernels are compiled and the memory for them is allocated at the start.

        Otherwise memory would grow during minutes of load, at every batch larger than all before.
        """
        name, task = max(self.tasks.items(), key=lambda item: item[1].max_length)
        for words in (1, 12, task.max_length):
            row = ["a " * words] * (1 + task.pair)
            self.predict(name, [row] * min(MAX_BATCH_ROWS, 4 * TOKENS_PER_BATCH // words))

    def _id(self) -> str:
        return sha256_of(self.folder / MANIFEST)[:12]

    def _stat_files(self) -> list[tuple[str, int, int, int]]:
        stats = [(path.name, path.stat()) for path in sorted(self.folder.iterdir())]
        return [(name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
