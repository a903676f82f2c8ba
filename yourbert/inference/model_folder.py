"""The model folder: everything needed to use a fine-tuned model.

config.json, model.safetensors   encoder under the names of Hugging Face BERT, heads under `heads.<task>.`
vocab.txt, tokenizer_config.json the tokenizer
model.json                       tasks with their label maps, training parameters, provenance
manifest.json                    size and sha256 of each file, checked at every load
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


def save_model(folder: Path, model: Model, tasks: Mapping[str, Task], base: Path, metadata: Mapping[str, Any]) -> None:
    """Writes a model folder. base: an encoder folder with the tokenizer's files. metadata: goes into model.json."""
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
        **metadata,
    }
    write_json(folder / "model.json", about)
    write_manifest(folder)


def load_model(folder: Path, machine: Machine) -> tuple[Model, dict[str, Task]]:
    """Loads the model of a folder, in evaluation mode; returns it and its tasks by name.

    Raises UserError: C01 for a missing or damaged file, C06 for heads of other tasks, C12 for another format.
    """
    if not (folder / MANIFEST).is_file():
        what = f"not a model folder: it has no {MANIFEST}"
        fail("C01", what, where=str(folder), fix="name a model folder, for instance build/models/sst/11711")
    check_manifest(folder)
    about = read_json(folder / "model.json")
    if about.get("format") != FORMAT or not _is_complete(about):
        what = f"the folder has format {about.get('format')}, this version reads {FORMAT}"
        fail("C12", what, where=str(folder), fix="train it again")
    where = str(folder / "model.json")
    tasks = {name: Task.from_json(block, where) for name, block in about["tasks"].items()}
    tensors = read_tensors(folder / "model.safetensors")
    config = EncoderConfig.from_json(read_json(folder / "config.json"))
    loaded = from_stock(tensors, config)
    rng = torch.Generator().manual_seed(0)  # the randomly initialized heads are replaced below
    pooling, layers = about["task_pooling"], about["task_specific_layers"]
    model = Model(loaded.encoder, tasks.values(), "mean", 0.0, rng, pooling, layers)
    if _shapes(loaded.heads) != _shapes(model.heads.state_dict()):
        fail("C06", "the stored heads do not match the tasks", where=str(folder), fix="train it again")
    model.heads.load_state_dict(loaded.heads)
    return place_model(model, machine).eval(), tasks


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _is_complete(about: Mapping[str, Any]) -> bool:
    """Whether model.json has all fields that describe the model."""
    tasks, pooling, layers = (about.get(key) for key in ("tasks", "task_pooling", "task_specific_layers"))
    if not isinstance(tasks, dict) or not isinstance(pooling, dict) or not isinstance(layers, dict) or not tasks:
        return False
    if pooling.keys() != tasks.keys() or not layers.keys() <= tasks.keys():
        return False
    numbers = all(type(number) is int and number > 0 for number in layers.values())
    return numbers and all(vector in ("cls", "mean") for vector in pooling.values())


def load_fp32(folder: Path, machine: Machine, model: Model) -> tuple[Model, Machine]:
    """A model for gradients, in fp32: `model` if it is, else loaded again from its folder; and the matching machine."""
    exact = replace(machine, dtype=torch.float32)
    return (model if machine.dtype == torch.float32 else load_model(folder, exact)[0]), exact


def place_model(model: Model, machine: Machine) -> Model:
    """Moves a model to the device and sets the precision and the attention kernel of its encoder."""
    model.encoder.compute_dtype, model.encoder.kernel = machine.dtype, machine.kernel
    return model.to(machine.device)


def _revision() -> str:
    """The git commit of the code, or "" outside a repository."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip()
