"""Texts and text pairs to token ids, equal to those of the reference BERT tokenizer, with truncation.

The `tokenizers` library does WordPiece (Devlin et al. 2019) with the vocab.txt of a model folder and the settings in
its tokenizer_config.json. It spends most of its time splitting texts and tracking the offsets of pieces. Most texts are
plain ASCII, in which the pieces of a word do not depend on its context: such texts are split here, and the pieces of
each word are cached.
"""

from __future__ import annotations

import hashlib
import json
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
from yourbert.tokens.tokenizer_settings import SPECIAL_TOKENS, TokenizerSettings, read_settings

FILES = VOCABULARY, CONFIG = "vocab.txt", "tokenizer_config.json"
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

    The result is that of `longest_first` in the `tokenizers` library: where both have more than half of the room, the
    odd token is the longer text's, or the second's if both are equally long. first, second: the lengths before.
    """
    if first + second <= room:
        return first, second
    shorter = min(first, second, room // 2)
    return (shorter, room - shorter) if first <= second else (room - shorter, shorter)


def is_plain_ascii(text: str) -> bool:
    """Whether a text is printable ASCII without "[", so that it names no special token and `ASCII_WORD` splits it."""
    return text.isascii() and text.isprintable() and "[" not in text


def read_vocabulary(path: Path, where: str = "") -> dict[str, int]:
    """The word pieces of a vocab.txt and their ids, the numbers of their lines from 0. Raises UserError (C01)."""
    try:
        lines = path.read_bytes().decode().split("\n")
    except FileNotFoundError:
        fail("C01", "the file is missing", where=where or str(path), fix="run `dvc repro` to make it")
    except (OSError, UnicodeDecodeError) as error:
        fail("C01", f"not a readable vocabulary ({error})", where=where or str(path), fix="run `dvc repro` to make it")
    words = lines[:-1] if lines[-1] == "" else lines
    return {word.removesuffix("\r"): index for index, word in enumerate(words)}


def tokenizer_sha256(folder: Path) -> str:
    """The `sha256` of the tokenizer in a folder, without loading it. Raises UserError (C01, C05)."""
    vocabulary = read_vocabulary(folder / VOCABULARY)
    settings = read_settings(read_json(folder / CONFIG), vocabulary, str(folder / CONFIG))
    return _identity(folder / VOCABULARY, settings)


def _identity(vocabulary: Path, settings: TokenizerSettings) -> str:
    """The sha256 of vocab.txt, and of the settings where there are others than whether to lower-case."""
    sha256 = sha256_of(vocabulary)
    if settings == TokenizerSettings(settings.lower_case):
        return sha256
    return hashlib.sha256(f"{sha256} {json.dumps(settings.to_json(), sort_keys=True)}".encode()).hexdigest()


def _pattern(names: Iterable[str], normalizer: normalizers.Normalizer) -> re.Pattern[str] | None:
    """What a lower-cased text has to contain for one of the names to be in it, before or after normalization."""
    spellings = {form.lower() for name in names for form in (name, normalizer.normalize_str(name))}
    return re.compile("|".join(map(re.escape, sorted(spellings)))) if spellings else None


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
    """A WordPiece tokenizer. `sha256` identifies it; the ids of special tokens are attributes."""

    def __init__(self, vocabulary: dict[str, int], settings: TokenizerSettings, sha256: str) -> None:
        self.settings, self.lower_case, self.sha256 = settings, settings.lower_case, sha256
        self.unk_id, self.sep_id, self.pad_id, self.cls_id, self.mask_id = (vocabulary[t] for t in SPECIAL_TOKENS)
        self.special_ids = sorted(vocabulary[t] for t in SPECIAL_TOKENS)
        self.vocabulary_size = max(*vocabulary.values(), *(token.id for token in settings.named)) + 1
        model = WordPiece(
            vocabulary,
            unk_token="[UNK]",
            max_input_chars_per_word=MAX_WORD_LENGTH,
            continuing_subword_prefix=CONTINUATION,
        )
        self._wordpiece = WordPieceTokenizer(model)
        self._wordpiece.normalizer = normalizers.BertNormalizer(
            clean_text=True,
            handle_chinese_chars=settings.tokenize_chinese_chars,
            strip_accents=settings.strip_accents,
            lowercase=settings.lower_case,
        )
        self._wordpiece.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        # As in the reference, the name of a special token in a text is that token.
        named = {t: AddedToken(t, normalized=False, special=True) for t in SPECIAL_TOKENS}
        named |= {token.content: AddedToken(**token.to_json()) for token in settings.named}
        self._wordpiece.add_tokens(list(named.values()))
        self._cache = WordCache(self._wordpiece)
        self._named = _pattern(named.keys() - {*SPECIAL_TOKENS}, self._wordpiece.normalizer)

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Reads the tokenizer of a model folder.

        Raises UserError: C01 (unreadable), C05 (not BERT's vocabulary, or a setting that is not supported).
        """
        path = folder / VOCABULARY
        vocabulary = read_vocabulary(path)
        settings = read_settings(read_json(folder / CONFIG), vocabulary, str(folder / CONFIG))
        return cls(vocabulary, settings, _identity(path, settings))

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The token of each id, as the vocabulary spells it."""
        return [self._wordpiece.id_to_token(int(i)) or "[UNK]" for i in ids]

    def word_piece_ids(self, texts: Iterable[str]) -> Iterator[list[int]]:
        """The ids of each text, without truncation and without [CLS] and [SEP]."""
        for chunk in chunked(texts, CHUNK_TEXTS, CHUNK_CHARACTERS, len):
            others = [text for text in chunk if not self._is_split_here(text)]
            encoded = iter(self._wordpiece.encode_batch_fast(others, add_special_tokens=False) if others else [])
            for text in chunk:
                yield self._ascii_ids(text) if self._is_split_here(text) else next(encoded).ids

    def _is_split_here(self, text: str) -> bool:
        """Whether `_ascii_ids` gives the ids of this text: it is plain ASCII and names no added token."""
        return is_plain_ascii(text) and (self._named is None or not self._named.search(text.lower()))

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
