"""Masked-language-model training: it learns, no text is lost, and text files are read as they are."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tiny
from yourbert.checkpoint import Resume
from yourbert.errors import UserError
from yourbert.heads import MlmHead
from yourbert.pretrain import MlmLearner, MlmModel, read_texts, sequences
from yourbert.pretrained import load_encoder, random_encoder, save_encoder
from yourbert.tokenizer import Tokenizer
from yourbert.train import train

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(tiny.VOCABULARY - 5))]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    return Tokenizer.load(tmp_path)


def test_it_learns_and_the_head_is_kept(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """Two of five pieces of a row name its class, so a model that reads the context guesses far above chance."""
    rows = sequences([tiny.split(tiny.task(), 400, 1)], iter(()), 32)
    dev = sequences([tiny.split(tiny.task(), 60, 2)], iter(()), 32)
    encoder = random_encoder(tiny.CONFIG, torch.Generator().manual_seed(1), 0.1)
    encoder.freeze_pooler()
    model = MlmModel(encoder, MlmHead(tiny.CONFIG, torch.Generator().manual_seed(2)))
    settings = tiny.training(lr=3e-3, batch_size=16, epochs=4)
    learner = MlmLearner(model, rows, dev, tokenizer, settings, 0.15, tiny.MACHINE, 1)
    model.eval()
    untrained = learner.evaluate()["mlm"]
    with Resume(tmp_path / "resume") as resume:
        outcome = train("mlm", learner, settings, resume)
    assert outcome.best > 0.2 > 4 * untrained
    save_encoder(tmp_path / "out", encoder, model.head)
    loaded = load_encoder(tmp_path / "out", 0.0, torch.Generator())
    assert loaded.mlm_head is not None
    for name, tensor in model.head.state_dict().items():
        assert torch.equal(loaded.mlm_head.state_dict()[name], tensor)


def test_the_dev_mask_is_the_same_each_time(tokenizer: Tokenizer) -> None:
    dev = sequences([tiny.split(tiny.task(), 60, 2)], iter(()), 32)
    encoder = random_encoder(tiny.CONFIG, torch.Generator().manual_seed(1))
    model = MlmModel(encoder, MlmHead(tiny.CONFIG, torch.Generator().manual_seed(2))).eval()
    learner = MlmLearner(model, dev, dev, tokenizer, tiny.training(), 0.15, tiny.MACHINE, 1)
    assert learner.evaluate() == learner.evaluate()


@pytest.mark.parametrize("max_length", [8, 16, 64])
def test_long_sequences_are_cut_and_nothing_is_lost(max_length: int) -> None:
    split = tiny.split(tiny.task("sim", "similarity"), 30, 1)
    packed = sequences([split], iter(()), max_length)
    np.testing.assert_array_equal(packed.tokens, split.tokens)
    assert np.diff(packed.offsets).max() <= max_length
    segments = np.concatenate(
        [np.arange(b - a) >= s for a, b, s in zip(packed.offsets, packed.offsets[1:], packed.second, strict=False)]
    )
    whole = np.concatenate(
        [np.arange(b - a) >= s for a, b, s in zip(split.offsets, split.offsets[1:], split.second, strict=False)]
    )
    np.testing.assert_array_equal(segments, whole)


def test_texts_of_a_folder(tmp_path: Path, tokenizer: Tokenizer) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("w1 w2 w3\n\nw4\n")
    with gzip.open(folder / "b.txt.gz", "wt") as file:
        file.write("w5 " * 20 + "\n")
    (folder / "notes.md").write_text("w6\n")
    found = [ids.tolist() for ids in read_texts(folder, tokenizer, 12)]
    w = {word: index for index, word in enumerate(WORDS)}
    assert found[0] == [w["[CLS]"], w["w1"], w["w2"], w["w3"], w["[SEP]"]]
    assert found[1] == [w["[CLS]"], w["w4"], w["[SEP]"]]
    assert [len(ids) for ids in found[2:]] == [12, 12]
    assert sum(ids.count(w["w5"]) for ids in found) == 20


@pytest.mark.parametrize("content", [b"\xff\xfe broken", b"\x1f\x8b not gzip"])
def test_a_text_that_cannot_be_read_is_named(tmp_path: Path, tokenizer: Tokenizer, content: bytes) -> None:
    path = tmp_path / ("x.txt.gz" if content.startswith(b"\x1f") else "x.txt")
    path.write_bytes(content)
    with pytest.raises(UserError, match="D08"):
        list(read_texts(path, tokenizer, 12))


def test_a_folder_without_texts_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="D29"):
        list(read_texts(tmp_path / "empty", tokenizer, 12))
