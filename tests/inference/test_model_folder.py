"""Model folders: a loaded model predicts as the saved one; damaged or incomplete folders are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.inference.conftest import TASKS
from tests.support import tiny
from yourbert.core.errors import UserError
from yourbert.core.storage import read_json, write_json, write_manifest
from yourbert.inference.model_folder import load_model
from yourbert.inference.predict import predict
from yourbert.model.multitask import Model
from yourbert.model.pretrained import load_encoder, save_encoder


def test_it_predicts_as_the_model_that_was_saved(saved: tuple[Model, Path]) -> None:
    model, folder = saved
    loaded, tasks = load_model(folder, tiny.MACHINE)
    assert tasks == TASKS
    for name, task in TASKS.items():
        split = tiny.split(task, 12, 5)
        np.testing.assert_array_equal(
            predict(loaded, name, split, tiny.MACHINE), predict(model, name, split, tiny.MACHINE)
        )


def test_its_encoder_and_heads_can_be_trained_further(saved: tuple[Model, Path]) -> None:
    model, folder = saved
    loaded = load_encoder(folder, 0.1, torch.Generator())
    own = dict(model.encoder.named_parameters())
    assert all(torch.equal(p, own[name]) for name, p in loaded.encoder.named_parameters())
    assert loaded.heads.keys() == model.heads.state_dict().keys()
    assert all(torch.equal(loaded.heads[name], t) for name, t in model.heads.state_dict().items())
    save_encoder(folder.parent / "bare", model.encoder, None)
    assert load_encoder(folder.parent / "bare", 0.1, torch.Generator()).heads == {}


@pytest.mark.parametrize("name", ["model.safetensors", "model.json", "vocab.txt", "config.json"])
def test_a_changed_byte_is_refused(saved: tuple[Model, Path], name: str) -> None:
    path = saved[1] / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)
    with pytest.raises(UserError, match="C01") as caught:
        load_model(saved[1], tiny.MACHINE)
    assert caught.value.exit_code == 5


def test_a_missing_file_is_named(saved: tuple[Model, Path]) -> None:
    (saved[1] / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors"):
        load_model(saved[1], tiny.MACHINE)


def test_a_task_without_its_head_is_refused(saved: tuple[Model, Path]) -> None:
    about = read_json(saved[1] / "model.json")
    about["tasks"]["extra"] = {**about["tasks"]["mood"], "name": "extra"}
    about["task_pooling"]["extra"] = "mean"
    write_json(saved[1] / "model.json", about)
    write_manifest(saved[1])
    with pytest.raises(UserError, match="C06"):
        load_model(saved[1], tiny.MACHINE)
