"""The model folder that is served: loaded once, asked many times, and watched for becoming another one."""

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
from yourbert.deploy.serve.queue import ROWS_AT_ONCE, Row
from yourbert.evaluation.explain import Explainer
from yourbert.inference.model_folder import in_fp32, load_model
from yourbert.inference.predict import TOKENS_PER_BATCH, predict_texts
from yourbert.runtime.machine import Machine, release_memory
from yourbert.tokens.tokenizer import Tokenizer

# Batches come in ever other sizes, whose blocks leave holes between them: given back now and then, they do not add up.
SECONDS_KEPT = 10.0


class Served:
    """A model folder as it was when it was loaded. Raises UserError (C01, C12) where it is not whole.

    id: the first digits of the sha256 of its manifest, by which answers say whose they are.
    """

    def __init__(self, folder: Path, machine: Machine) -> None:
        self.folder, self.machine = folder, machine
        self.model, self.tasks = load_model(folder, machine)
        self.tokenizer = Tokenizer.load(folder)
        self.id = self._id()
        model, exact = in_fp32(folder, machine, self.model)
        self.explainers = {name: Explainer(model, task, self.tokenizer, exact) for name, task in self.tasks.items()}
        self._seen = self._signature()
        self._release_at = 0.0
        self._warm()

    def predict(self, name: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """For each row what `yourbert predict` says of it, and whether a text of it was cut at the task's length."""
        if time.monotonic() > self._release_at:
            release_memory()
            self._release_at = time.monotonic() + SECONDS_KEPT
        task: Task = self.tasks[name]
        outputs, cut_S = predict_texts(self.model, task, self.tokenizer, rows, self.machine)
        cut_R: list[bool] = cut_S.reshape(len(rows), -1).max(axis=1).tolist()
        return [{**said, "cut": cut} for said, cut in zip(as_json(task, outputs), cut_R, strict=True)]

    def explain(self, name: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """For each row what `yourbert explain --json` says of it."""
        return [asdict(self.explainers[name].explain(row)) for row in rows]

    def stale(self) -> str:
        """Why the folder is not what is served any more, or "". Reads the files again only when they changed."""
        try:
            if (seen := self._signature()) != self._seen:
                check_manifest(self.folder)
                if self._id() != self.id:
                    return "the folder holds another model now; start again to serve it"
                self._seen = seen
        except (UserError, OSError):
            return "the folder is not whole any more; what is served was read before"
        return ""

    def _warm(self) -> None:
        """Answers what fills a batch, so that the memory it takes is there from the start, and kernels are made.

        Else it would grow whenever more rows than ever before meet in one batch, for minutes of load.
        """
        name, task = max(self.tasks.items(), key=lambda one: one[1].max_length)
        for words in (1, 12, task.max_length):
            row = ["a " * words] * (1 + task.pair)
            self.predict(name, [row] * min(ROWS_AT_ONCE, 4 * TOKENS_PER_BATCH // words))

    def _id(self) -> str:
        return sha256_of(self.folder / MANIFEST)[:12]

    def _signature(self) -> list[tuple[str, int, int, int]]:
        stats = [(path.name, path.stat()) for path in sorted(self.folder.iterdir())]
        return [(name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
