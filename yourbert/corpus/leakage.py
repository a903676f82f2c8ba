"""Leakage: texts of a dev or test split that also occur in training data, of the same task or of another one.

Texts are compared by an 8-byte hash of their lower-cased words; a pair equals the same pair in reverse order. The
sorted unique hashes of each split are stored with its tokens (texts.npy), so that tasks can be compared later.
Shapes: R rows, N texts per row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from yourbert.core.storage import read_array, read_json
from yourbert.core.tasks import SPLITS, Split, Task

Hashes = npt.NDArray[np.uint64]
MIX = np.uint64(0x9E3779B97F4A7C15)


def text_hash(text: str) -> int:
    """A 64-bit hash of a text that ignores case and white space."""
    return int.from_bytes(hashlib.blake2b(" ".join(text.lower().split()).encode(), digest_size=8).digest(), "little")


def text_hashes(texts: Iterable[Sequence[str]]) -> Hashes:
    """The hash of each text of each row, in order."""
    return np.fromiter((text_hash(text) for row in texts for text in row), dtype=np.uint64)


def row_keys(texts_RN: Hashes) -> Hashes:
    """One key per row, [R]: the hash of its text, or a combination of both hashes that does not depend on their order.

    texts_RN: the hashes of its texts, N = 1 or 2.
    """
    if texts_RN.shape[1] == 1:
        return texts_RN[:, 0]
    low, high = texts_RN.min(axis=1), texts_RN.max(axis=1)
    keys: Hashes = (low * MIX) ^ (high + (low >> np.uint64(29)))
    return keys


def cross_task_leakage(folders: Sequence[Path]) -> dict[str, dict[str, int]]:
    """The number of texts of a task's dev or test split in another task's train split: {"sts/dev": {"quora/train": 3}}.

    folders: the tokens folders of the tasks. Distinct single texts are counted; there are no entries of 0.
    """
    texts: dict[str, dict[Split, Hashes]] = {}
    for folder in folders:
        name = Task.from_json(read_json(folder / "task.json"), str(folder / "task.json")).name
        texts[name] = {s: read_array(folder / s / "texts.npy") for s in SPLITS if (folder / s).is_dir()}
    leakage: dict[str, dict[str, int]] = {}
    for name, splits in texts.items():
        for split in ("dev", "test"):
            for other in texts:
                if other == name or split not in splits:
                    continue
                if n := len(np.intersect1d(splits[split], texts[other]["train"], assume_unique=True)):
                    leakage.setdefault(f"{name}/{split}", {})[f"{other}/train"] = n
    return leakage
