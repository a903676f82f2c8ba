"""A small vocabulary and a corpus of pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tokens.test_tokenizer import write_base
from yourbert.config.schema import TaskData

TRAIN = [("r0", "good film", "bad film", "0"), ("r1", "the film was good", "a film", "1"), ("r2", "o", "i", "1")]
DEV = [("d0", "A  Film", "the FILM was good", "1"), ("d1", "new", "text", "0")]
Rows = list[tuple[str, str, str, str]]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_base(tmp_path / "base")


def corpus(folder: Path, train: Rows = TRAIN, dev: Rows = DEV, test: Rows | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    for name, rows in (("train", train), ("dev", dev), ("test", test)):
        if rows is not None:
            lines = ["id\tfirst\tsecond\tlabel", *("\t".join(row) for row in rows)]
            (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    return folder


def pairs(**changes: Any) -> TaskData:
    facts: dict[str, Any] = {
        "kind": "classification", "train": "train.tsv", "dev": "dev.tsv", "text": ["first", "second"], "label": "label",
        "id": "id", "labels": ["0", "1"], "max_length": 16,
    }  # fmt: skip
    return TaskData(**{**facts, **changes})
