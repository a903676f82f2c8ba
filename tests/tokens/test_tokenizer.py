"""The same ids as the reference tokenizer, and its truncation rule."""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yourbert.core.errors import UserError
from yourbert.core.tasks import TruncationSide
from yourbert.tokens.tokenizer import Tokenizer, split_budget, truncate
from yourbert.tokens.tokenizer_settings import SPECIAL_TOKENS, TokenizerSettings

TRUNCATIONS: tuple[TruncationSide, ...] = get_args(TruncationSide)
WORDS = "the film was good bad not very un ##able ##ly ##ing a i o e 1 2 ##1 . , ! ' ( ) @ caf\u00e9 cafe \u4e2d \u6587"
TEXTS = [
    "The film was very good.", "unable, badly; notgoodly", "caf\u00e9 CAF\u00c9 cafe\u0301", "\u4e2d\u6587 film\u4e2d",
    "", " \t\n ", "a\u200bb\u202e c\x07d \ufeff", "Stra\u00dfe \u0130stanbul \u017f \ufb01", "@Lustig -- don't (1.2)",
    "x" * 101, "o" * 100, "not [MASK] very [SEP]good [UNK]", "[mask] [CLS", "\U0001f600 good\U0001f44d\U0001f3fd",
    "\u0645\u0631\u062d\u0628\u0627", "\u2028line\u2029 \u00a0 \u3000", "\u0e20\u0e32\u0e29\u0e32 \ud55c\uad6d\uc5b4",
    "e\u0301\u0323 a\u030a", "good\x00bad \ufffd", "##able a##ing",
]  # fmt: skip


def settled(character: str) -> bool:
    """Characters whose category is stable since Unicode 3.2; `tokenizers` and Python differ on newer ones."""
    return unicodedata.category(character) == unicodedata.ucd_3_2_0.category(character) != "Cn"


def write_base(folder: Path, lower_case: bool = True) -> Path:
    """A model folder with a small vocabulary: special tokens, single letters and a few words."""
    letters = [mark + c for mark in ("", "##") for c in "abcdefghijklmnopqrstuvwxyzABC"]
    words = list(dict.fromkeys(["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split(), *letters]))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lower_case}))
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 64}))
    return folder


def reference(folder: Path, lower_case: bool) -> Any:
    """The reference written in Python, wherever this version of transformers keeps it.

    A cased text it first composes (NFC), which neither BERT's own code nor its faster twin does: that one then.
    """
    transformers = pytest.importorskip("transformers")
    if not lower_case:
        return transformers.BertTokenizerFast.from_pretrained(str(folder), do_lower_case=False)
    try:
        written_in_python = import_module("transformers.models.bert.tokenization_bert_legacy").BertTokenizerLegacy
    except ImportError:
        written_in_python = transformers.BertTokenizer
    return written_in_python(str(folder / "vocab.txt"))


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return Tokenizer.load(write_base(tmp_path / "base"))


@pytest.mark.parametrize("lower_case", [True, False])
def test_equal_to_the_reference_on_a_small_vocabulary(tmp_path: Path, lower_case: bool) -> None:
    base = write_base(tmp_path / "base", lower_case)
    ours, theirs = Tokenizer.load(base), reference(base, lower_case)
    for text, (ids, second) in zip(TEXTS, ours.encode(TEXTS, None, 512, "right")[0], strict=True):
        assert ids == theirs(text)["input_ids"], ascii(text)
        assert second == len(ids)


@pytest.mark.integration
def test_equal_to_the_reference_on_the_real_vocabulary() -> None:
    base = Path(os.environ.get("YOURBERT_MINILM", "build/base"))
    if not (base / "vocab.txt").is_file():
        pytest.skip("neither YOURBERT_MINILM nor build/base holds the real vocabulary")
    ours, theirs = Tokenizer.load(base), reference(base, lower_case=True)

    @settings(max_examples=500, deadline=None, database=None)
    @given(st.text(st.characters(codec="utf-8").filter(settled), max_size=60))
    def equal(text: str) -> None:
        assert ours.encode([text], None, 512, "right")[0][0][0] == theirs(text)["input_ids"]

    equal()
    for text in TEXTS:
        assert ours.encode([text], None, 512, "right")[0][0][0] == theirs(text)["input_ids"], ascii(text)


@pytest.mark.parametrize("lower_case", [True, False])
def test_cached_words_equal_the_ids_of_the_library(tmp_path: Path, lower_case: bool) -> None:
    """ASCII texts are split here; the ids are those of the library, whatever the cache contains."""
    ours = Tokenizer.load(write_base(tmp_path / "base", lower_case))
    parts = st.sampled_from(
        ["a", "A", "able", "z1", " ", "  ", ".", "_", "-", "[", "]", "[MASK]", "\t", "\xe9", "o" * 101]
    )
    texts = st.lists(st.lists(parts, max_size=12).map("".join) | st.text(st.characters(max_codepoint=127)), max_size=6)

    @settings(max_examples=300, deadline=None)
    @given(texts)
    def equal(drawn: list[str]) -> None:
        whole = [e.ids for e in ours._wordpiece.encode_batch_fast(drawn, add_special_tokens=False)]
        assert list(ours.word_piece_ids(drawn)) == whole

    equal()


def test_the_cache_of_words_has_a_limit(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [a + b for a in "abcdef" for b in "abcdef"]
    whole = list(tokenizer.word_piece_ids(words))
    monkeypatch.setattr("yourbert.tokens.tokenizer.MAX_CACHED_WORDS", 5)
    tokenizer._cache.clear()
    for _ in range(2):
        assert list(tokenizer.word_piece_ids([" ".join(words)])) == [[i for ids in whole for i in ids]]
        assert 0 < len(tokenizer._cache) <= 5
    list(tokenizer.word_piece_ids(["o" * 101]))
    assert max(map(len, tokenizer._cache)) <= 100


def test_pairs_are_truncated_and_segmented_as_in_the_reference(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    ours, theirs = Tokenizer.load(base), pytest.importorskip("transformers").BertTokenizer.from_pretrained(str(base))
    for n, m in [(1, 1), (3, 12), (12, 3), (9, 9), (10, 20), (20, 10), (0, 20), (20, 0)]:
        first, second = " ".join("abcdefghijklmnopqrst"[:n]), " ".join("tsrqponmlkjihgfedcba"[:m])
        for max_length in range(8, 24):
            ((ids, start),) = ours.encode([first], [second], max_length, "right")[0]
            expected = theirs([first], [second], max_length=max_length, truncation="longest_first")
            assert [ids] == expected["input_ids"], (n, m, max_length)
            assert [[int(i >= start) for i in range(len(ids))]] == expected["token_type_ids"]


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_the_longer_text_of_a_pair_is_truncated_first(first: int, second: int, room: int) -> None:
    """Nothing of the shorter text is cut before the other is as short; the tokens left are as even as they can be."""
    a, b = split_budget(first, second, room)
    assert a + b == min(first + second, room) and 0 <= a <= first and 0 <= b <= second
    if first <= second:
        assert a == first or abs(a - b) <= 1
    else:
        assert b == second or abs(a - b) <= 1


@given(st.lists(st.integers(), max_size=30), st.integers(0, 35), st.sampled_from(TRUNCATIONS))
def test_truncation_keeps_the_right_part(ids: list[int], room: int, side: TruncationSide) -> None:
    kept = truncate(ids, room, side)
    assert len(kept) == min(len(ids), room)
    if len(ids) <= room:
        assert kept == ids
        return
    head = {"right": room, "left": 0, "middle": (room + 1) // 2}[side]
    assert kept == ids[:head] + ids[len(ids) - (room - head) :]


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_a_truncated_sequence_keeps_its_special_tokens_and_its_limit(data: st.DataObject) -> None:
    tokenizer = Tokenizer({t: i for i, t in enumerate([*SPECIAL_TOKENS, *"abcdefgh"])}, TokenizerSettings(True), "")
    texts = st.lists(st.text("abcdefgh ", max_size=80), min_size=3, max_size=3)
    first, second = data.draw(texts), data.draw(st.none() | texts)
    max_length = data.draw(st.integers(8, 40))
    side = data.draw(st.sampled_from(TRUNCATIONS))
    sequences, lengths = tokenizer.encode(first, second, max_length, side)
    for (ids, start), length in zip(sequences, lengths, strict=True):
        assert len(ids) == min(length, max_length)
        assert ids[0] == tokenizer.cls_id and ids[-1] == ids[start - 1] == tokenizer.sep_id
        assert ids.count(tokenizer.sep_id) == (1 if second is None else 2)
        assert second is not None or start == len(ids)


def test_order_survives_chunks(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["good"] * 3 + ["bad " * 50] + ["very"] * 9
    whole = list(tokenizer.word_piece_ids(texts))
    monkeypatch.setattr("yourbert.tokens.tokenizer.CHUNK_TEXTS", 4)
    monkeypatch.setattr("yourbert.tokens.tokenizer.CHUNK_CHARACTERS", 60)
    assert list(tokenizer.word_piece_ids(texts)) == whole and len(whole) == len(texts)


def test_attributes_of_a_vocabulary(tokenizer: Tokenizer, tmp_path: Path) -> None:
    words = (tmp_path / "base" / "vocab.txt").read_text().splitlines()
    assert tokenizer.vocabulary_size == len(words) and tokenizer.lower_case
    assert tokenizer.sha256 == hashlib.sha256((tmp_path / "base" / "vocab.txt").read_bytes()).hexdigest()
    assert tokenizer.tokens(tokenizer.special_ids) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert tokenizer.mask_id == words.index("[MASK]") and tokenizer.cls_id == words.index("[CLS]")


def test_a_vocabulary_of_another_kind_is_refused(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    (base / "vocab.txt").write_text("<s>\n</s>\nword\n")
    with pytest.raises(UserError, match=r"C05.*lacks \[UNK\]"):
        Tokenizer.load(base)
    (base / "vocab.txt").unlink()
    with pytest.raises(UserError, match="C01"):
        Tokenizer.load(base)
