"""Models, states and tokens that are not as they were saved are never used, whatever byte of them is wrong.

Each case carries its number in the catalogue of docs/reliability.md.
"""

from __future__ import annotations

import json
import logging
import shutil
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.faults.project import Project
from tests.inference.conftest import saved  # noqa: F401 - a fixture
from tests.support import tiny
from yourbert.core.errors import UserError
from yourbert.core.seeding import rng_for
from yourbert.core.storage import (
    MANIFEST,
    read_array,
    read_json,
    read_tensors,
    write_json,
    write_manifest,
    write_tensors,
)
from yourbert.inference.model_folder import load_model
from yourbert.model.multitask import Model
from yourbert.model.pretrained import load_encoder
from yourbert.tokens.packing import open_tokens
from yourbert.training.checkpoint import STATE, Resume

pytestmark = pytest.mark.integration

SOME, MANY = 100, 10_000


def damages(content: bytes, count: int, kind: str, seed: int) -> Iterator[bytes]:
    """The content with one bit flipped, or cut off at some byte, `count` times."""
    rng = rng_for(seed, "damage", kind)
    for at in rng.integers(0, len(content), count).tolist():
        if kind == "cut":
            yield content[:at]
        else:
            bit = 1 << int(rng.integers(8))
            yield content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :]


def rewritten(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["cut", "flip"])
def test_c01_c02_no_damaged_model_is_ever_used(saved: tuple[Model, Path], kind: str) -> None:  # noqa: F811
    """In every file of a model folder, the one with the hashes too."""
    folder = saved[1]
    files = sorted(path for path in folder.iterdir() if path.is_file())
    assert MANIFEST in {path.name for path in files}
    for path in files:
        whole = path.read_bytes()
        for content in damages(whole, MANY // len(files) + 1, kind, len(whole)):
            rewritten(path, content)
            with pytest.raises(UserError) as caught:
                load_model(folder, tiny.MACHINE)
            assert caught.value.exit_code == 5
        rewritten(path, whole)
    load_model(folder, tiny.MACHINE)


@pytest.mark.parametrize("count", [SOME, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["cut", "flip"])
def test_c01_c02_no_damaged_state_is_ever_gone_on_from(
    tmp_path: Path, kind: str, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    settings = tiny.training(epochs=1)
    learner = tiny.learner([tiny.tokens(tiny.task())], settings)
    learning = dict(learner.model.named_parameters())
    optimizer = torch.optim.AdamW(learning.values())
    with Resume(tmp_path / "resume", 0.0) as resume, caplog.at_level(logging.WARNING, "yourbert"):
        resume.save(learning, optimizer, {n: p.detach().clone() for n, p in learning.items()}, {"steps": 3})
        whole = (tmp_path / "resume" / STATE).read_bytes()
        assert resume.load(learning, optimizer) is not None
        before = {name: p.detach().clone() for name, p in learning.items()}
        for content in damages(whole, count, kind, 7):
            rewritten(tmp_path / "resume" / STATE, content)
            assert resume.load(learning, optimizer) is None
        assert all(torch.equal(p, before[name]) for name, p in learning.items())
    assert all("C01" in message and "starts from the beginning" in message for message in caplog.messages)
    assert len(caplog.messages) == count


def test_c01_a_run_with_a_damaged_state_begins_anew(tmp_path: Path) -> None:
    settings = tiny.training(epochs=1)
    ends = []
    for damaged in (False, True):
        learner = tiny.learner([tiny.tokens(tiny.task())], settings)
        if damaged:
            (tmp_path / "resume").mkdir()
            (tmp_path / "resume" / STATE).write_bytes(b"half a sta")
        with Resume(tmp_path / "resume", 1e9) as resume:
            tiny.trained(learner, settings, resume)
        ends.append([p.detach().clone() for p in learner.model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def stock(folder: Path, header: bytes, data: bytes = b"", length: int | None = None) -> Path:
    """A checkpoint folder whose safetensors file has these bytes."""
    write_json(folder / "config.json", tiny.CONFIG.to_json())
    size = struct.pack("<Q", len(header) if length is None else length)
    (folder / "model.safetensors").write_bytes(size + header + data)
    return folder


def tensor(start: int, end: int, shape: int = 1, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": [shape], "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("header", "length"),
    [
        (b"{}", 2**63),
        (b"{}", 2**40),
        (b"", 0),
        (json.dumps({"a": tensor(0, 4), "b": tensor(2, 6)}).encode(), None),
        (json.dumps({"a": tensor(0, 4), "b": tensor(8, 12)}).encode(), None),
        (json.dumps({"a": tensor(0, 2**62, 2**60)}).encode(), None),
        (json.dumps({"a": tensor(0, 4, dtype="F7")}).encode(), None),
        (b'{"a": {"a": {"a": ', None),
        (b"[" * 100_000, None),
    ],
    ids=["2^63", "2^40", "empty", "overlap", "hole", "huge", "dtype", "open", "deep"],
)
def test_c11_a_header_that_lies(tmp_path: Path, header: bytes, length: int | None) -> None:
    folder = stock(tmp_path, header, b"\0" * 16, length)
    began = time.monotonic()
    with pytest.raises(UserError, match="C01"):
        load_encoder(folder, 0.0, torch.Generator())
    assert time.monotonic() - began < 1


def test_c07_weights_that_are_not_numbers(saved: tuple[Model, Path]) -> None:  # noqa: F811
    folder = saved[1]
    tensors = read_tensors(folder / "model.safetensors")
    tensors["embeddings.word_embeddings.weight"][3, 4] = float("nan")
    write_tensors(folder / "model.safetensors", tensors)
    write_manifest(folder)
    with pytest.raises(UserError, match=r"C07.*embeddings.word_embeddings.weight"):
        load_model(folder, tiny.MACHINE)


@pytest.mark.parametrize("number", [0, 1, 2, 99, "3", None])
def test_c12_another_format(saved: tuple[Model, Path], number: object) -> None:  # noqa: F811
    folder = saved[1]
    write_json(folder / "model.json", read_json(folder / "model.json") | {"format": number})
    write_manifest(folder)
    with pytest.raises(UserError, match=r"C12.*this version reads 3"):
        load_model(folder, tiny.MACHINE)


def test_c12_a_folder_without_its_facts(saved: tuple[Model, Path]) -> None:  # noqa: F811
    folder = saved[1]
    for key in ("format", "tasks", "task_pooling", "task_specific_layers"):
        about = read_json(folder / "model.json")
        shutil.copytree(folder, folder.parent / key)
        write_json(folder.parent / key / "model.json", {k: v for k, v in about.items() if k != key})
        write_manifest(folder.parent / key)
        with pytest.raises(UserError, match="C12"):
            load_model(folder.parent / key, tiny.MACHINE)


def test_c01_a_sequential_model_without_its_init(project: Project) -> None:
    project.download()
    for task in ("sst", "quora", "sts"):
        assert project.attempt("tokenize", task).code == 0
    found = project.attempt("finetune", "shared", "11711")
    assert found.code == 5 and "C01 build/models/quora-sts/11711/vocab.txt: the file is missing" in found.said


def test_p05_more_own_layers_than_the_model_has(project: Project) -> None:
    project.download()
    for task in ("sst", "quora", "sts"):
        assert project.attempt("tokenize", task).code == 0
    build = project.folder / "build"
    shutil.copytree(build / "base", build / "models" / "quora-sts" / "11711")
    project.edit("    sst: all\n", "    sst: 2\n")
    found = project.attempt("finetune", "shared", "11711")
    assert found.code == 2 and "P05 params.yaml: shared.task_specific_layers.sst is 2; the model in " in found.said


def test_tokens_cut_short_are_refused(project: Project) -> None:
    project.download()
    assert project.attempt("tokenize", "sst").code == 0
    folder = project.folder / "build" / "tokens" / "sst"
    for path in sorted(folder.rglob("*.npy")):
        whole = path.read_bytes()
        for at in np.linspace(0, len(whole) - 1, 9).astype(int).tolist():
            rewritten(path, whole[:at])
            with pytest.raises(UserError) as caught:
                open_tokens(folder) if path.name != "texts.npy" else read_array(path)
            assert caught.value.exit_code == 5, path
        rewritten(path, whole)
