"""Which texts stand in two places: splits of one task, or the training text of one and the test text of another.

Texts are compared by an 8-byte hash of their lower-cased words; a pair is the same pair in either order. The hashes
of each split are kept beside its tokens (texts.npy: sorted, each once), so that tasks can be compared later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from yourbert.core.storage import read_array, read_json
from yourbert.core.tasks import SPLITS, Split, Task

Hashes = npt.NDArray[np.uint64]
MIX = np.uint64(0x9E3779B97F4A7C15)


def text_hash(text: str) -> int:
    """The same for texts that differ in case or white space alone."""
    return int.from_bytes(hashlib.blake2b(" ".join(text.lower().split()).encode(), digest_size=8).digest(), "little")


def row_keys(texts_RN: Hashes) -> Hashes:
    """One key for each row: its text's hash, or a mixture of its two that forgets their order."""
    if texts_RN.shape[1] == 1:
        return texts_RN[:, 0]
    low, high = texts_RN.min(axis=1), texts_RN.max(axis=1)
    keys: Hashes = (low * MIX) ^ (high + (low >> np.uint64(29)))
    return keys


def cross_task_leakage(folders: Sequence[Path]) -> dict[str, dict[str, int]]:
    """Texts of one task's dev or test that another task trains on: {"sts/dev": {"quora/train": 3}}.

    folders: tokens folders of several tasks. Counts distinct single texts; where there is none, nothing is said.
    """
    texts: dict[str, dict[Split, Hashes]] = {}
    for folder in folders:
        name = Task.from_json(read_json(folder / "task.json"), str(folder / "task.json")).name
        texts[name] = {s: read_array(folder / s / "texts.npy") for s in SPLITS if (folder / s).is_dir()}
    found: dict[str, dict[str, int]] = {}
    for name, splits in texts.items():
        for split in ("dev", "test"):
            for other in texts:
                if other == name or split not in splits:
                    continue
                if n := len(np.intersect1d(splits[split], texts[other]["train"], assume_unique=True)):
                    found.setdefault(f"{name}/{split}", {})[f"{other}/train"] = n
    return found
