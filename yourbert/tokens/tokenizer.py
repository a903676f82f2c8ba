"""Text or pair -> token ids, as the reference BERT tokenizer makes them; the truncation rule in one place.

The work is done by the `tokenizers` library (WordPiece; Devlin et al. 2019) from the two files of a model folder:
vocab.txt and tokenizer_config.json, of which only `do_lower_case` is read. That library spends most of its time on
splitting a text and on where each piece came from. Most texts are plain ASCII, where a word's pieces depend on nothing
around it: these are split here, and the pieces of each word are asked for once and remembered.
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
CHUNK_TEXTS, CHUNK_CHARACTERS = 4096, 2_000_000  # what is tokenized at once
MAX_CACHED_WORDS = 1 << 17  # about 40 MB
MAX_WORD_LENGTH = 100  # characters; a longer one is unknown, whatever the vocabulary
CONTINUES = "##"  # how a piece is written that goes on a word
ASCII_WORD = re.compile(r"[A-Za-z0-9]+|[^A-Za-z0-9 ]")  # of a text for which `is_plain_ascii` holds

EncodedText = tuple[list[int], int]


def truncate(ids: list[int], room: int, side: TruncationSide) -> list[int]:
    """At most `room` of the tokens: the first, the last, or half from each end (the odd one from the head)."""
    if len(ids) <= room:
        return ids
    head = {"right": room, "left": 0, "middle": room - room // 2}[side]
    tail = room - head
    return ids[:head] + (ids[-tail:] if tail else [])


def split_budget(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens each text of a pair keeps when `room` is for both: the longer one gives way (longest first).

    As the reference does by taking away one token at a time: from the second text when both are of one length.
    """
    if first + second <= room:
        return first, second
    kept = min(first, max(room - second, room - room // 2))
    return kept, room - kept


def is_plain_ascii(text: str) -> bool:
    """Whether a text has printable ASCII alone and cannot name a special token: `ASCII_WORD` finds its words."""
    return text.isascii() and text.isprintable() and "[" not in text


class WordCache(dict[str, list[int]]):
    """The pieces of each plain word met so far; a new one is looked up, and at `MAX_CACHED_WORDS` it starts afresh."""

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
    """A vocabulary in use.

    `sha256` identifies it; the ids of the special tokens are attributes.
    """

    def __init__(self, vocabulary: dict[str, int], lower_case: bool, sha256: str) -> None:
        self.lower_case, self.sha256 = lower_case, sha256
        self.unk_id, self.sep_id, self.pad_id, self.cls_id, self.mask_id = (vocabulary[t] for t in SPECIAL_TOKENS)
        self.special_ids = sorted(vocabulary[t] for t in SPECIAL_TOKENS)
        self.vocabulary_size = max(vocabulary.values()) + 1
        model = WordPiece(
            vocabulary, unk_token="[UNK]", max_input_chars_per_word=MAX_WORD_LENGTH, continuing_subword_prefix=CONTINUES
        )
        self._wordpiece = WordPieceTokenizer(model)
        self._wordpiece.normalizer = normalizers.BertNormalizer(
            clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=lower_case
        )
        self._wordpiece.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        # A special token's name inside a text is that token, as in the reference.
        self._wordpiece.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in SPECIAL_TOKENS])
        self._known = WordCache(self._wordpiece)

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Reads a model folder's tokenizer. Raises UserError (C01, C05)."""
        path = folder / "vocab.txt"
        try:
            lines = path.read_bytes().decode().split("\n")
        except (OSError, UnicodeDecodeError) as error:
            fail(
                "C01",
                f"not a readable vocabulary ({error})",
                where=str(path),
                fix="run `dvc repro` to make it",
            )
        words = lines[:-1] if lines[-1] == "" else lines
        vocabulary = {word.removesuffix("\r"): index for index, word in enumerate(words)}
        missing = [token for token in SPECIAL_TOKENS if token not in vocabulary]
        if missing:
            fail(
                "C05",
                f"the vocabulary lacks {', '.join(missing)}",
                where=str(path),
                fix="use the vocab.txt of a BERT",
            )
        config = read_json(folder / "tokenizer_config.json")
        return cls(vocabulary, bool(config.get("do_lower_case", True)), sha256_of(path))

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The vocabulary's word for each id."""
        return [self._wordpiece.id_to_token(int(i)) or "[UNK]" for i in ids]

    def word_piece_ids(self, texts: Iterable[str]) -> Iterator[list[int]]:
        """The ids of each text, all of them, without [CLS] and [SEP]."""
        for chunk in chunked(texts, CHUNK_TEXTS, CHUNK_CHARACTERS, len):
            odd = [text for text in chunk if not is_plain_ascii(text)]
            encoded = iter(self._wordpiece.encode_batch_fast(odd, add_special_tokens=False) if odd else [])
            for text in chunk:
                yield self._pieces_of_plain(text) if is_plain_ascii(text) else next(encoded).ids

    def _pieces_of_plain(self, text: str) -> list[int]:
        known, ids = self._known, list[int]()
        for word in ASCII_WORD.findall(text.lower() if self.lower_case else text):
            ids += known[word]
        return ids

    def encode(
        self, texts_a: Sequence[str], texts_b: Sequence[str] | None, max_length: int, side: TruncationSide
    ) -> tuple[list[EncodedText], list[int]]:
        """(ids, second) of each text or pair, and the length of each sequence before truncation.

        ids: [CLS] a [SEP] or [CLS] a [SEP] b [SEP], at most `max_length` of them. second: where the second text begins;
        the length where there is none.
        """
        if texts_b is None:
            singles = list(self.word_piece_ids(texts_a))
            return [self._single(a, max_length, side) for a in singles], [len(a) + 2 for a in singles]
        assert len(texts_a) == len(texts_b), "a pair has two texts"
        pairs = list(zip(self.word_piece_ids(texts_a), self.word_piece_ids(texts_b), strict=True))
        return [self._pair(a, b, max_length, side) for a, b in pairs], [len(a) + len(b) + 3 for a, b in pairs]

    def _single(self, a: list[int], max_length: int, side: TruncationSide) -> EncodedText:
        ids = [self.cls_id, *truncate(a, max_length - 2, side), self.sep_id]
        return ids, len(ids)

    def _pair(self, a: list[int], b: list[int], max_length: int, side: TruncationSide) -> EncodedText:
        room_a, room_b = split_budget(len(a), len(b), max_length - 3)
        head = [self.cls_id, *truncate(a, room_a, side), self.sep_id]
        return [*head, *truncate(b, room_b, side), self.sep_id], len(head)
