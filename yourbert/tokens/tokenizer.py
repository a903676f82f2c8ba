"""Texts and text pairs to token ids, equal to those of the reference BERT tokenizer, with truncation.

The `tokenizers` library does WordPiece (Devlin et al. 2019) with the vocab.txt of a model folder and the
`do_lower_case` of its tokenizer_config.json. It spends most of its time splitting texts and tracking the offsets of
pieces. Most texts are plain ASCII, in which the pieces of a word do not depend on its context: such texts are split
here, and the pieces of each word are cached.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tokenizers import AddedToken, normalizers, pre_tokenizers
from tokenizers import Tokenizer as WordPieceTokenizer
from tokenizers.models import WordPiece

from yourbert.core.errors import fail
from yourbert.core.storage import read_json, sha256_of
from yourbert.core.tasks import TruncationSide
from yourbert.core.text import chunked

FILES = ("vocab.txt", "tokenizer_config.json")
SPECIAL_TOKENS = ("[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]")
CHUNK_TEXTS, CHUNK_CHARACTERS = 4096, 2_000_000  # the size of a chunk of texts, whichever limit it reaches first
MAX_CACHED_WORDS = 1 << 17  # about 40 MB
MAX_WORD_LENGTH = 100  # characters; a longer word is [UNK]
CONTINUATION = "##"  # the prefix of a piece that does not start a word
ASCII_WORD = re.compile(r"[A-Za-z0-9]+|[^A-Za-z0-9 ]")  # a word of a text for which `is_plain_ascii` holds

EncodedText = tuple[list[int], int]  # token ids, and the position of the second text (the length if there is none)


def truncate(ids: list[int], room: int, side: TruncationSide) -> list[int]:
    """Truncates to `room` ids on the `side` given; "middle" keeps half from each end, the start rounded up."""
    if len(ids) <= room:
        return ids
    head = {"right": room, "left": 0, "middle": room - room // 2}[side]
    tail = room - head
    return ids[:head] + (ids[-tail:] if tail else [])


def split_budget(first: int, second: int, room: int) -> tuple[int, int]:
    """The number of tokens that each text of a pair keeps, given `room` for both: the longer one is truncated first.

    The result is that of the reference, which removes one token at a time, from the second text if both are equally
    long. first, second: the lengths before truncation.
    """
    if first + second <= room:
        return first, second
    budget = min(first, max(room - second, room - room // 2))
    return budget, room - budget


def is_plain_ascii(text: str) -> bool:
    """Whether a text is printable ASCII without "[", so that it names no special token and `ASCII_WORD` splits it."""
    return text.isascii() and text.isprintable() and "[" not in text


class WordCache(dict[str, list[int]]):
    """A cache of the piece ids of ASCII words; it is cleared when it has `MAX_CACHED_WORDS` entries."""

    def __init__(self, wordpiece: WordPieceTokenizer) -> None:
        self._wordpiece = wordpiece

    def __missing__(self, word: str) -> list[int]:
        pieces: list[int] = self._wordpiece.encode(word, add_special_tokens=False).ids
        if len(word) <= MAX_WORD_LENGTH:
            if len(self) >= MAX_CACHED_WORDS:
                self.clear()
            self[word] = pieces
        return pieces


class Tokenizer:
    """A WordPiece tokenizer. `sha256` identifies its vocabulary; the ids of special tokens are attributes."""

    def __init__(self, vocabulary: dict[str, int], lower_case: bool, sha256: str) -> None:
        self.lower_case, self.sha256 = lower_case, sha256
        self.unk_id, self.sep_id, self.pad_id, self.cls_id, self.mask_id = (vocabulary[t] for t in SPECIAL_TOKENS)
        self.special_ids = sorted(vocabulary[t] for t in SPECIAL_TOKENS)
        self.vocabulary_size = max(vocabulary.values()) + 1
        model = WordPiece(
            vocabulary,
            unk_token="[UNK]",
            max_input_chars_per_word=MAX_WORD_LENGTH,
            continuing_subword_prefix=CONTINUATION,
        )
        self._wordpiece = WordPieceTokenizer(model)
        self._wordpiece.normalizer = normalizers.BertNormalizer(
            clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=lower_case
        )
        self._wordpiece.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        # As in the reference, the name of a special token in a text is that token.
        self._wordpiece.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in SPECIAL_TOKENS])
        self._cache = WordCache(self._wordpiece)

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Reads the tokenizer of a model folder. Raises UserError: C01 (unreadable), C05 (not BERT's vocabulary)."""
        path = folder / "vocab.txt"
        try:
            lines = path.read_bytes().decode().split("\n")
        except (OSError, UnicodeDecodeError) as error:
            fail("C01", f"not a readable vocabulary ({error})", where=str(path), fix="run `dvc repro` to make it")
        words = lines[:-1] if lines[-1] == "" else lines
        vocabulary = {word.removesuffix("\r"): index for index, word in enumerate(words)}
        missing = [token for token in SPECIAL_TOKENS if token not in vocabulary]
        if missing:
            what = f"the vocabulary lacks {', '.join(missing)}"
            fail("C05", what, where=str(path), fix="use the vocab.txt of a BERT model")
        config = read_json(folder / "tokenizer_config.json")
        return cls(vocabulary, bool(config.get("do_lower_case", True)), sha256_of(path))

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The token of each id, as the vocabulary spells it."""
        return [self._wordpiece.id_to_token(int(i)) or "[UNK]" for i in ids]

    def word_piece_ids(self, texts: Iterable[str]) -> Iterator[list[int]]:
        """The ids of each text, without truncation and without [CLS] and [SEP]."""
        for chunk in chunked(texts, CHUNK_TEXTS, CHUNK_CHARACTERS, len):
            others = [text for text in chunk if not is_plain_ascii(text)]
            encoded = iter(self._wordpiece.encode_batch_fast(others, add_special_tokens=False) if others else [])
            for text in chunk:
                yield self._ascii_ids(text) if is_plain_ascii(text) else next(encoded).ids

    def _ascii_ids(self, text: str) -> list[int]:
        cache, ids = self._cache, list[int]()
        for word in ASCII_WORD.findall(text.lower() if self.lower_case else text):
            ids += cache[word]
        return ids

    def encode(
        self, texts_a: Sequence[str], texts_b: Sequence[str] | None, max_length: int, side: TruncationSide
    ) -> tuple[list[EncodedText], list[int]]:
        """Encodes texts, or pairs of them, and returns also the length of each sequence before truncation.

        The ids are [CLS] a [SEP] or [CLS] a [SEP] b [SEP], at most `max_length` of them.
        """
        if texts_b is None:
            singles = list(self.word_piece_ids(texts_a))
            return [self._single(a, max_length, side) for a in singles], [len(a) + 2 for a in singles]
        pairs = list(zip(self.word_piece_ids(texts_a), self.word_piece_ids(texts_b), strict=True))
        return [self._pair(a, b, max_length, side) for a, b in pairs], [len(a) + len(b) + 3 for a, b in pairs]

    def _single(self, a: list[int], max_length: int, side: TruncationSide) -> EncodedText:
        ids = [self.cls_id, *truncate(a, max_length - 2, side), self.sep_id]
        return ids, len(ids)

    def _pair(self, a: list[int], b: list[int], max_length: int, side: TruncationSide) -> EncodedText:
        room_a, room_b = split_budget(len(a), len(b), max_length - 3)
        head = [self.cls_id, *truncate(a, room_a, side), self.sep_id]
        return [*head, *truncate(b, room_b, side), self.sep_id], len(head)
