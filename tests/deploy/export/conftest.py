"""Model folders of each pooling, and their predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import tiny
from tests.support.predicting import TASKS
from tests.tokens.test_tokenizer import write_base
from yourbert.config.schema import Runtime
from yourbert.core.tasks import Pooling
from yourbert.inference.model_folder import load_model, save_model
from yourbert.inference.predict import predict
from yourbert.model.encoder import initialise
from yourbert.model.multitask import Model
from yourbert.model.pretrained import random_encoder
from yourbert.runtime.machine import Machine, prepare
from yourbert.tokens.packing import pack
from yourbert.tokens.tokenizer import Tokenizer

TEXTS = ["good film", "was very bad, notgoodly", "a b c d e f g h a b c d e f g h a b", "\u4e2d !", "film"]


# Of a pair that is too long their tokenizer may take the odd token from the other text, so none is.
SHORT = [text for text in TEXTS if len(text) < 30]


PAIRS = [*zip(SHORT, SHORT[1:] + SHORT[:1], strict=True)]
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}
MACHINE = prepare(Runtime(device="cpu", precision="fp32", num_threads=1, deterministic=False))
FACTS: dict[str, Any] = {
    "run": "all", "seed": 3, "training": {"lr": 0.001}, "encoder": "abc", "tokens": {"mood": "def"},
    "outcome": {"steps": 1000, "tokens": 20000, "best_epoch": 2, "parameters": 30},
}  # fmt: skip


@pytest.fixture
def machine() -> Machine:
    return MACHINE


def made(place: Path, pooling: Pooling, task_pooling: dict[str, Pooling] | None = None) -> Path:
    """A model with every kind of head, whose answers differ from row to row."""
    base, rng = write_base(place / "base"), torch.Generator().manual_seed(2)
    size = len((base / "vocab.txt").read_text(encoding="utf-8").splitlines())
    encoder = random_encoder(replace(tiny.CONFIG, vocab_size=size), rng)
    model = Model(encoder, TASKS.values(), pooling, 0.0, rng, task_pooling, dict.fromkeys(task_pooling or {}, 1))
    with torch.no_grad():
        for name in model.task_specific_layers:
            initialise(model.heads[name].layers, rng)
        for parameter in model.heads.parameters():
            parameter.mul_(20 if parameter.ndim > 1 else 1)
    save_model(place / "model", model, TASKS, base, FACTS)
    return place / "model"


@pytest.fixture(scope="session")
def mean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It reads the mean of all tokens."""
    return made(tmp_path_factory.mktemp("mean"), "mean")


@pytest.fixture(scope="session")
def cls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It reads the pooled first token."""
    return made(tmp_path_factory.mktemp("cls"), "cls")


@pytest.fixture(scope="session")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pair in one input reads the first token from a last layer of its own, the other tasks the mean."""
    return made(tmp_path_factory.mktemp("both"), "mean", {"same": "cls"})


def rows(name: str) -> list[Sequence[str]]:
    return [[text] for text in TEXTS] if not TASKS[name].pair else list(PAIRS)


def ours(folder: Path, name: str, machine: Machine) -> Any:
    model, _ = load_model(folder, machine)
    return predict(model, name, pack(Tokenizer.load(folder), TASKS[name], rows(name)), machine)
