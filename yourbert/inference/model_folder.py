"""A model folder: one directory that holds all that is needed to use a tailored model.

config.json, model.safetensors   encoder under its stock names, heads under `heads.<task>.`
vocab.txt, tokenizer_config.json how text becomes word pieces
model.json                       tasks with their label maps, how it was trained, from what
manifest.json                    sizes and sha256, checked at every load
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from yourbert.core.errors import fail
from yourbert.core.storage import (
    MANIFEST,
    check_manifest,
    link_or_copy,
    read_json,
    read_tensors,
    write_json,
    write_manifest,
    write_tensors,
)
from yourbert.core.tasks import Task
from yourbert.model.encoder import EncoderConfig
from yourbert.model.multitask import Model
from yourbert.model.pretrained import HEADS, from_stock, to_stock
from yourbert.runtime.machine import Machine
from yourbert.tokens.tokenizer import FILES

FORMAT = 3


def save_model(folder: Path, model: Model, tasks: Mapping[str, Task], base: Path, facts: Mapping[str, Any]) -> None:
    """Writes a model folder. base: the encoder folder it was tailored from, for the tokenizer's files."""
    heads = {HEADS + name: t for name, t in model.heads.state_dict().items()}
    write_tensors(folder / "model.safetensors", to_stock(model.encoder) | heads, {"format": "pt"})
    write_json(folder / "config.json", model.encoder.config.to_json())
    for name in FILES:
        link_or_copy(base / name, folder / name)
    about = {
        "format": FORMAT,
        "task_pooling": model.task_pooling,
        "task_specific_layers": model.task_specific_layers,
        "tasks": {name: task.to_json() for name, task in tasks.items()},
        "revision": _revision(),
        **facts,
    }
    write_json(folder / "model.json", about)
    write_manifest(folder)


def load_model(folder: Path, machine: Machine) -> tuple[Model, dict[str, Task]]:
    """A model ready to predict, and its tasks. Raises UserError (C01, C12) for a folder that is not whole."""
    if not (folder / MANIFEST).is_file():
        what = f"this is no model folder: it has no {MANIFEST}"
        fail("C01", what, where=str(folder), fix="name a model folder, for instance build/models/sst/11711")
    check_manifest(folder)
    about = read_json(folder / "model.json")
    if about.get("format") != FORMAT or not _whole(about):
        what = f"the folder has format {about.get('format')}, this version reads {FORMAT}"
        fail("C12", what, where=str(folder), fix="train it again")
    where = str(folder / "model.json")
    tasks = {name: Task.from_json(facts, where) for name, facts in about["tasks"].items()}
    tensors = read_tensors(folder / "model.safetensors")
    config = EncoderConfig.from_json(read_json(folder / "config.json"))
    loaded = from_stock(tensors, config)
    rng = torch.Generator().manual_seed(0)  # the heads drawn from it are replaced below
    pooling, layers = about["task_pooling"], about["task_specific_layers"]
    model = Model(loaded.encoder, tasks.values(), "mean", 0.0, rng, pooling, layers)
    if _shapes(loaded.heads) != _shapes(model.heads.state_dict()):
        fail("C06", "the heads stored there are not those of its tasks", where=str(folder), fix="train it again")
    model.heads.load_state_dict(loaded.heads)
    return settle(model, machine).eval(), tasks


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _whole(about: Mapping[str, Any]) -> bool:
    """Whether it says what the model is made of."""
    tasks, pooling, layers = (about.get(key) for key in ("tasks", "task_pooling", "task_specific_layers"))
    if not isinstance(tasks, dict) or not isinstance(pooling, dict) or not isinstance(layers, dict) or not tasks:
        return False
    if pooling.keys() != tasks.keys() or not layers.keys() <= tasks.keys():
        return False
    numbers = all(type(number) is int and number > 0 for number in layers.values())
    return numbers and all(vector in ("cls", "mean") for vector in pooling.values())


def in_fp32(folder: Path, machine: Machine, model: Model) -> tuple[Model, Machine]:
    """The model loaded from the folder, as gradients of its answers need it: in fp32, loaded once more if it is not."""
    exact = replace(machine, dtype=torch.float32)
    return (model if machine.dtype == torch.float32 else load_model(folder, exact)[0]), exact


def settle(model: Model, machine: Machine) -> Model:
    """Moves a model to the device and lets its encoder compute in the machine's precision, with its attention."""
    model.encoder.compute_dtype, model.encoder.kernel = machine.dtype, machine.kernel
    return model.to(machine.device)


def _revision() -> str:
    """The git commit the code stands at, or "" outside a repository."""
    answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return answer.stdout.strip()
