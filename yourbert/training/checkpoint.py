"""Exact resume: an interrupted run continues from its last saved step and ends in the same weights.

The state is not a DVC output, because DVC removes outputs before it runs a stage. Its folder is named by a fingerprint
of everything that determines the result: settings, input hashes, code and machine. So no run can resume from another
run's state. The state is one file, replaced atomically, removed after success, and locked against a second writer.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from yourbert.core.errors import UserError, fail
from yourbert.core.locks import acquire, lock_of, owner
from yourbert.core.paths import project_root
from yourbert.core.storage import folder_hash, read_tensors, read_tensors_metadata, write_tensors

LIBRARY = Path(__file__).parents[1]
logger = logging.getLogger("yourbert")
STATE = "state.safetensors"
SECONDS_BETWEEN_SAVES = 60.0
History = dict[str, Any]


def _digest(tensors: Mapping[str, Tensor], history: str) -> str:
    """A checksum, because safetensors does not detect a flipped bit."""
    digest = hashlib.sha256(history.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def fingerprint(facts: Mapping[str, object]) -> str:
    """A short name for a JSON-able description of a run."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:20]


def resume_folder(facts: Mapping[str, object], code: Sequence[str]) -> Path:
    """The folder for the resume state of the run that `facts` describe.

    code: the library's folders and files that dvc.yaml lists for the stage. So an edit invalidates a resume state
    exactly if it invalidates the stage.
    """
    hashes = {name: folder_hash(LIBRARY / name) for name in code}
    return project_root() / ".yourbert" / "resume" / fingerprint({**facts, "code": hashes})


class Resume:
    """The resume state of one run, locked within the `with` block.

    It is saved after a step, every `seconds_between_saves`; the moment of saving does not affect the result. Raises
    UserError (B10) if another process holds the lock. With several ranks only the leading one locks, saves and removes
    the state, and all of them load it.
    """

    def __init__(self, folder: Path, seconds_between_saves: float = SECONDS_BETWEEN_SAVES, leads: bool = True) -> None:
        self.folder, self.leads = folder, leads
        self.seconds_between_saves = seconds_between_saves
        self._saved = time.monotonic()

    def __enter__(self) -> Resume:
        if not self.leads:
            return self
        path = lock_of(self.folder)
        lock = acquire(path)
        if lock is None:
            what = f"this run is already being trained by {owner(path) or 'another process'}"
            fail("B10", what, where=str(self.folder), fix="wait for it, or stop it")
        self._lock = lock
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not self.leads:
            return
        if kind is None:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()

    def due(self) -> bool:
        return self.leads and time.monotonic() - self._saved >= self.seconds_between_saves

    def save(
        self,
        learning: Mapping[str, nn.Parameter],
        optimizer: torch.optim.AdamW,
        best: Mapping[str, Tensor],
        history: History,
    ) -> None:
        """Writes weights, moments, the `best` weights so far and `history`."""
        tensors: dict[str, Tensor] = {f"now/{name}": p for name, p in learning.items()}
        tensors |= {f"best/{name}": t for name, t in best.items()}
        for name, p in learning.items():
            if moments := optimizer.state.get(p):
                # Per parameter, because a head is updated only in steps with its task.
                tensors[f"step/{name}"] = moments["step"]
                tensors |= {f"mean/{name}": moments["exp_avg"], f"square/{name}": moments["exp_avg_sq"]}
        text = json.dumps(history)
        write_tensors(self.folder / STATE, tensors, {"history": text, "sha256": _digest(tensors, text)})
        self._saved = time.monotonic()

    def saved_bytes(self) -> int:
        """The size of the saved state; 0 when there is none."""
        return (self.folder / STATE).stat().st_size if (self.folder / STATE).exists() else 0

    def load(
        self, learning: Mapping[str, nn.Parameter], optimizer: torch.optim.AdamW
    ) -> tuple[dict[str, Tensor], History] | None:
        """Restores weights and moments; returns the best weights and the history, or None without a state.

        A damaged state is ignored with a warning, and the run starts from the beginning.
        """
        if not (self.folder / STATE).exists():
            return None
        try:
            tensors, metadata = read_tensors(self.folder / STATE), read_tensors_metadata(self.folder / STATE)
        except UserError:
            tensors, metadata = {}, {}
        if metadata.get("sha256") != _digest(tensors, metadata.get("history", "")):
            if self.leads:
                logger.warning(
                    "C01 %s: damaged since it was saved; the run starts from the beginning", self.folder / STATE
                )
            return None
        history: History = json.loads(metadata["history"])
        with torch.no_grad():
            for name, p in learning.items():
                p.copy_(tensors[f"now/{name}"])
                if f"mean/{name}" in tensors:
                    optimizer.state[p] = {
                        "step": tensors[f"step/{name}"].to(p.device),
                        "exp_avg": tensors[f"mean/{name}"].to(p.device),
                        "exp_avg_sq": tensors[f"square/{name}"].to(p.device),
                    }
        return {name: tensors[f"best/{name}"] for name in learning}, history
