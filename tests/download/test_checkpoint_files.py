"""A stranger's checkpoint: what can be read is read, and what would fail in a later stage is refused here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from tests.support.faulty_server import Faulty
from tests.support.stock_models import CONFIG, FILES, PIECES, TENSORS, offer
from yourbert.core.errors import UserError
from yourbert.download.mirrors import fetch_model
from yourbert.model.pretrained import load_encoder

Tensors = dict[str, Tensor]
Content = dict[str, bytes]
WORDS = "embeddings.word_embeddings.weight"
MLM = {
    "cls.predictions.transform.dense.weight": torch.ones(4, 4),
    "cls.predictions.transform.dense.bias": torch.ones(4),
    "cls.predictions.transform.LayerNorm.weight": torch.ones(4),
    "cls.predictions.transform.LayerNorm.bias": torch.ones(4),
    "cls.predictions.bias": torch.ones(8),
}
UNTIED = {"cls.predictions.decoder.weight": torch.ones(8, 4), "cls.predictions.decoder.bias": torch.ones(8)}


def weights(tensors: Tensors = TENSORS, **more: Tensor) -> Content:
    return FILES | {"model.safetensors": save({**tensors, **{n.replace("__", "."): t for n, t in more.items()}})}


def config(**changes: Any) -> Content:
    return FILES | {"config.json": json.dumps({**CONFIG.to_json(), **changes}).encode()}


def shards(
    names: tuple[str, str] = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"),
) -> Content:
    files = {name: data for name, data in FILES.items() if name != "model.safetensors"}
    parts = [dict(list(TENSORS.items())[part::2]) for part in (0, 1)]
    index = {"metadata": {}, "weight_map": {n: names[part] for part in (0, 1) for n in parts[part]}}
    files |= {name: save(part) for name, part in zip(names, parts, strict=True)}
    return files | {"model.safetensors.index.json": json.dumps(index).encode()}


def within(folder: str, files: Content = FILES) -> Content:
    """The old layout of sentence-transformers."""
    modules = [
        {"idx": 0, "name": "0", "path": folder, "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    outside = {"modules.json": json.dumps(modules).encode(), "config.json": b'{"__version__": "0.3.8"}'}
    return outside | {f"{folder}/{name}": data for name, data in files.items()}


def write(folder: Path, files: Content) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def fetched(tmp_path: Path, files: Content) -> Tensors:
    """The encoder's tensors after `download`, with which every later stage starts."""
    base = tmp_path / "base"
    fetch_model(str(write(tmp_path / "mine", files)), base, tmp_path / "cache")
    assert {path.name for path in base.iterdir()} == {*FILES, "manifest.json"}
    load_encoder(base, 0.1, torch.Generator())
    return load_file(base / "model.safetensors")


def bert(tensors: Tensors) -> Tensors:
    return {f"bert.{name}": tensor for name, tensor in tensors.items()}


def old_names(tensors: Tensors) -> Tensors:
    pairs = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))
    return {n.replace(*pairs[0]).replace(*pairs[1]): t for n, t in tensors.items()}


READ: dict[str, tuple[Content, str]] = {
    "as it is": (FILES, ""),
    "shards": (shards(), ""),
    "old sentence-transformers": (within("0_Transformer"), ""),
    "old sentence-transformers with shards": (within("0_BERT", shards()), ""),
    "half precision": (weights({n: t.half() for n, t in TENSORS.items()}), ""),
    "bfloat16": (weights({n: t.bfloat16() for n, t in TENSORS.items()}), ""),
    "old names": (weights(bert(old_names(TENSORS))), ""),
    "another name of an activation": (config(hidden_act="gelu_pytorch_tanh"), ""),
    "a classifier": (weights(bert(TENSORS), classifier__weight=torch.ones(3, 4), classifier__bias=torch.ones(3)),
                     "the head of another task is left out: classifier.bias [3]; classifier.weight [3, 4]"),
    "a model folder of ours": (weights(heads__mood__linear__weight=torch.ones(3, 4)),
                               "the head of another task is left out: heads.mood.linear.weight"),
    "a question answerer": (weights(bert(TENSORS), qa_outputs__weight=torch.ones(2, 4)), "left out: qa_outputs.weight"),
    "an untied decoder": (weights({**bert(TENSORS), **MLM, **UNTIED}), "the masked-LM head is left out"),
    "shorter texts": (FILES | {"tokenizer_config.json": b'{"do_lower_case": true, "model_max_length": 8}'},
                      "at most 8 tokens"),
    "fewer word pieces": (config(vocab_size=10) | {"model.safetensors": save({**TENSORS, WORDS: torch.ones(10, 4)})},
                          "8 word pieces for 10 embeddings"),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_what_can_be_read_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    files, said = READ[name]
    got = fetched(tmp_path, files)
    for stock, tensor in TENSORS.items():
        mine = got.get(stock, got.get(f"bert.{stock}", got.get(*old_names(bert({stock: tensor})))))
        assert mine is not None and (stock == WORDS or torch.allclose(mine.float(), tensor, atol=1e-2))
    assert said in caplog.text and bool(said) == bool(caplog.records)
    assert not any("classifier" in n or "qa_outputs" in n or "heads" in n or "predictions" in n for n in got)


def test_a_tied_masked_lm_head_stays(tmp_path: Path) -> None:
    tied = {"cls.predictions.decoder.weight": TENSORS[WORDS].clone(), "cls.predictions.decoder.bias": torch.ones(8)}
    assert MLM.keys() < fetched(tmp_path, weights({**bert(TENSORS), **MLM, **tied})).keys()


REFUSED: dict[str, tuple[Content, str, str]] = {
    "more word pieces": (
        FILES | {"vocab.txt": FILES["vocab.txt"] + b"more\n"},
        "C05",
        "9 word pieces, but the model only 8",
    ),
    "an unknown activation": (config(hidden_act="mish"), "C10", "hidden_act 'mish' is not supported"),
    "another shape": (config(hidden_size=8), "C03", "not match config.json"),
    "far larger than its weights": (
        config(hidden_size=65_536, num_attention_heads=1, num_hidden_layers=1000, vocab_size=10_000_000),
        "C03",
        "not match config.json",
    ),
    "one segment": (config(type_vocab_size=1), "C10", "type_vocab_size"),
    "a tensor in the encoder": (
        weights(encoder__layer__0__adapter=torch.ones(1)),
        "C03",
        "encoder.layer.0.adapter [1] is unexpected",
    ),
    "integers": (weights({**TENSORS, WORDS: torch.ones(8, 4, dtype=torch.int8)}), "C03", "of int8"),
    "not a number": (weights({**TENSORS, WORDS: torch.full((8, 4), torch.nan)}), "C07", "NaN or infinite"),
    "no encoder": (weights({"classifier.weight": torch.ones(3, 4)}), "C03", "is missing"),
    "a pickle": (
        {n: d for n, d in FILES.items() if "safe" not in n} | {"pytorch_model.bin": b""},
        "C04",
        "save_pretrained",
    ),
    "pickled shards": (
        {n: d for n, d in FILES.items() if "safe" not in n} | {"pytorch_model.bin.index.json": b"{}"},
        "C04",
        "pickle",
    ),
    "no weights": (
        {n: d for n, d in FILES.items() if "safe" not in n} | {"flax_model.msgpack": b""},
        "C01",
        "there are config.json, flax_model",
    ),
    "an index without shards": (
        {n: d for n, d in shards().items() if "00002-of" not in n},
        "C01",
        "no model-00002-of-00002.safetensors",
    ),
    "an index that leads elsewhere": (shards(("../x.safetensors", "/y.safetensors")), "C01", "does not name the files"),
    "an index of nothing": (shards() | {"model.safetensors.index.json": b"{}"}, "C01", "does not name the files"),
    "modules elsewhere": (within("..", {}), "C01", "there is no model.safetensors"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_later_stage_would_refuse_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    files, code, said = REFUSED[name]
    inside = {name: data for name, data in files.items() if ".." not in name and not name.startswith("/")}
    with pytest.raises(UserError) as caught:
        fetched(tmp_path, inside)
    (problem,) = caught.value.problems
    assert problem.code == code and said in problem.what + problem.fix, str(problem)
    assert problem.where == str(tmp_path / "mine") and str(problem).isprintable()
    assert not (tmp_path / "base").exists()


@pytest.mark.parametrize("made", [shards, lambda: within("0_Transformer"), lambda: within("0_Transformer", shards())])
def test_the_hub_has_the_same_layouts(hub: Faulty, tmp_path: Path, made: Callable[[], Content]) -> None:
    offer(hub, "org/model", made())
    fetch_model("org/model", tmp_path / "base", tmp_path / "cache")
    tensors = load_file(tmp_path / "base" / "model.safetensors")
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())
    assert len(PIECES) == len(tensors[WORDS])
