"""Training sequences for pretraining: no text is lost, and text files are read correctly."""

from __future__ import annotations

import gzip
import hashlib
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from tests.support import tiny
from yourbert.core.errors import UserError
from yourbert.pretraining import pretrain
from yourbert.pretraining.pretrain import read_texts, sequences
from yourbert.tokens.packing import PackedSplit
from yourbert.tokens.tokenizer import Tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(tiny.VOCABULARY - 5))]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    return Tokenizer.load(tmp_path)


@pytest.mark.parametrize("max_length", [8, 16, 64])
def test_long_sequences_are_split_and_nothing_is_lost(max_length: int) -> None:
    split = tiny.split(tiny.task("sim", "similarity"), 30, 1)
    packed = sequences([split], iter(()), max_length, Path(tempfile.gettempdir()))
    np.testing.assert_array_equal(packed.tokens, split.tokens)
    assert np.diff(packed.offsets).max() <= max_length
    segments = np.concatenate(
        [np.arange(b - a) >= s for a, b, s in zip(packed.offsets, packed.offsets[1:], packed.second, strict=False)]
    )
    whole = np.concatenate(
        [np.arange(b - a) >= s for a, b, s in zip(split.offsets, split.offsets[1:], split.second, strict=False)]
    )
    np.testing.assert_array_equal(segments, whole)


def one_by_one(splits: list[PackedSplit], texts: list[list[int]], max_length: int) -> tuple[list[list[int]], list[int]]:
    """The expected result of `sequences`, one sequence at a time."""
    parts, seconds = [], []
    for split in splits:
        for a, b, second in zip(split.offsets, split.offsets[1:], split.second, strict=False):
            for start in range(a, b, max_length):
                parts.append(split.tokens[start : min(b, start + max_length)].tolist())
                seconds.append(min(max(second - (start - a), 0), len(parts[-1])))
    return parts + texts, seconds + list(map(len, texts))


@pytest.mark.parametrize("at_once", [1, 7, 4096])
@pytest.mark.parametrize("max_length", [8, 9, 64])
def test_sequences_in_parts_of_any_size(
    tmp_path: Path, at_once: int, max_length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain, "SEQUENCES_AT_ONCE", at_once)
    splits = [tiny.split(tiny.task("sim", "similarity"), 30, 1), tiny.split(tiny.task(), 11, 2)]
    texts = [[2, *range(10, 10 + n % 5), 3] for n in range(23)]
    packed = sequences(splits, (np.asarray(ids) for ids in texts), max_length, tmp_path)
    found = [packed.tokens[a:b].tolist() for a, b in zip(packed.offsets, packed.offsets[1:], strict=False)]
    assert (found, packed.second.tolist()) == one_by_one(splits, texts, max_length)
    assert not list(tmp_path.iterdir()), "nothing is left behind"
    monkeypatch.setattr(pretrain, "NUMBERS_AT_ONCE", at_once)
    assert pretrain.content_hash(packed.tokens) == hashlib.sha256(packed.tokens.tobytes()).hexdigest()


def test_memory_does_not_grow_with_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """46 more megabytes of text need less than one more megabyte of memory."""
    monkeypatch.setattr(pretrain, "SEQUENCES_AT_ONCE", 512)

    def peak(passages: int) -> int:
        texts = (np.full(256, n % 50) for n in range(passages))
        tracemalloc.start()
        packed = sequences([], texts, 256, tmp_path)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(packed) == passages and packed.tokens[-1] == (passages - 1) % 50
        return found

    assert peak(25_000) - peak(2_500) < 1 << 20


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
def test_an_unreadable_text_file_is_reported(tmp_path: Path, tokenizer: Tokenizer, content: bytes) -> None:
    path = tmp_path / ("x.txt.gz" if content.startswith(b"\x1f") else "x.txt")
    path.write_bytes(content)
    with pytest.raises(UserError, match="D08"):
        list(read_texts(path, tokenizer, 12))


def test_a_folder_without_texts_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="D29"):
        list(read_texts(tmp_path / "empty", tokenizer, 12))
