"""Model folders that answer, of one task or several, and sentences to ask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from tests.support import tiny
from tests.tokens.test_tokenizer import write_base
from yourbert.config.schema import TaskData
from yourbert.core.tasks import Task
from yourbert.inference.model_folder import save_model
from yourbert.model.multitask import Model
from yourbert.model.pretrained import random_encoder

DATA = {
    "mood": TaskData(
        kind="classification", train="t.csv", dev="d.csv", text=["sentence"], label="mood", id="id",
        labels=["bad", "fair", "good, very"], max_length=16,
    ),
    "sim": TaskData(
        kind="similarity", train="t.csv", dev="d.csv", text=["first", "second"], label="score", id="id",
        range=[0.0, 5.0], encoding="bi", max_length=16,
    ),
    "same": TaskData(
        kind="classification", train="t.csv", dev="d.csv", text=["first", "second"], label="same",
        labels=["no", "yes"], max_length=16,
    ),
}  # fmt: skip


TASKS = {name: data.to_task(name) for name, data in DATA.items()}
WORDS = [*"abcdefgh", "good film", "was very bad,", "notgoodly", "caf\u00e9", "\u4e2d", "!"]


def saved(folder: Path, tasks: dict[str, Task]) -> Path:
    base = write_base(folder / "base")
    rng = torch.Generator().manual_seed(1)
    size = len((base / "vocab.txt").read_text(encoding="utf-8").splitlines())
    encoder = random_encoder(replace(tiny.CONFIG, vocab_size=size), rng)
    model = Model(encoder, tasks.values(), "mean", 0.1, rng).eval()
    with torch.no_grad():
        for p in model.parameters():  # answers that differ from row to row
            p.mul_(20 if p.ndim > 1 else 1)
    save_model(folder / "model", model, tasks, base, {"outcome": {"steps": 1}})
    return folder / "model"


def sentence(number: int) -> str:
    return " ".join(WORDS[(number * 7 + i * i) % len(WORDS)] for i in range(1 + number * 5 % 23))
