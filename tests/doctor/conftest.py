"""A healthy project of DVC, and what the doctor says of it."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from yourbert.core.storage import write_manifest
from yourbert.doctor.run import troubles

LOCK = "schema: '2.0'\nstages:\n  check:\n    cmd: python -m stages.check\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A healthy project: a committed dvc.lock, and a model folder whose files are objects of the cache."""
    root = tmp_path / "project"
    model = root / "build" / "models" / "sst" / "1"
    for folder in (root / ".dvc" / "tmp", model):
        folder.mkdir(parents=True)
    (root / "dvc.lock").write_text(LOCK)
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"weights" * 100)
    write_manifest(model)
    for path in model.iterdir():
        digest = hashlib.md5(path.read_bytes()).hexdigest()
        place = root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
        place.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, place)
    for words in (
        ("init", "-q"),
        ("add", "dvc.lock"),
        ("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "x"),
    ):
        subprocess.run(["git", *words], cwd=root, check=True)
    return root


def said(root: Path) -> list[str]:
    return [str(trouble) for trouble in troubles(root)]


def weights(root: Path) -> Path:
    return root / "build/models/sst/1/model.safetensors"


def empty_rwlock(root: Path) -> None:
    (root / ".dvc/tmp/rwlock").write_text("")


def merged_lock(root: Path) -> None:
    (root / "dvc.lock").write_text(f"<<<<<<< HEAD\n{LOCK}=======\n{LOCK}>>>>>>> other\n")


def cut_object(root: Path) -> None:
    os.truncate(weights(root), 300)
