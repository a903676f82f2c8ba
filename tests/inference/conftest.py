"""A model folder of two tasks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support import tiny
from yourbert.core.storage import write_json
from yourbert.inference.model_folder import save_model
from yourbert.model.multitask import Model
from yourbert.model.pretrained import random_encoder

TASKS = {
    "mood": tiny.task(),
    "sim": tiny.task("sim", "similarity"),
    "twin": tiny.task("twin", "similarity", encoding="bi"),
    "same": tiny.task("same", pair=True, encoding="bi"),
}


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Model, Path]:
    rng = torch.Generator().manual_seed(1)
    model = Model(random_encoder(tiny.CONFIG, rng), TASKS.values(), "mean", 0.1, rng).eval()
    base = tmp_path / "base"
    base.mkdir()
    (base / "vocab.txt").write_text("[PAD]\n")
    write_json(base / "tokenizer_config.json", {"do_lower_case": True})
    save_model(tmp_path / "model", model, TASKS, base, {"seed": 1})
    return model, tmp_path / "model"
