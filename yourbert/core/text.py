"""What counts as text: at least one visible character, and no half of a character. How much of it is held at once.

Corpus files, prediction input, explanations and server requests are checked by the same functions, so that a text that
a model can be trained on is also accepted by all that use the model.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import TypeVar

T = TypeVar("T")
# A decimal number that is no code such as 007, and its longest spelling.
NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?")
MAX_NUMBER = 40
# What pandas, Excel and JSON writers put in place of a missing value, in lower case.
MISSING = frozenset(
    ["", "nan", "-nan", "na", "n/a", "#n/a", "#n/a n/a", "#na", "<na>", "nat", "null", "none", "nil", "1.#ind",
     "-1.#ind", "1.#qnan", "-1.#qnan"]
)  # fmt: skip
# Control characters, soft hyphen, zero-width and bidirectional marks: part of the text, but invisible.
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def is_empty(text: str) -> bool:
    """Whether a text has no visible character."""
    return not HIDDEN.sub("", text).strip()


def label_key(text: str) -> str:
    """A key that is equal for different spellings of one label.

    Unicode is normalized (NFC) and blanks are collapsed. A number has the key of its value, unless it is a code with a
    leading zero; true and false are equal in any case.
    """
    key = " ".join(unicodedata.normalize("NFC", text).split())
    if NUMBER.fullmatch(key):
        return f"{(Decimal(key) + 0).normalize():f}" if len(key) <= MAX_NUMBER else key
    return key.lower() if key.lower() in ("true", "false") else key


def is_text(text: str) -> bool:
    """Whether a string has no lone surrogate.

    JSON allows half of a surrogate pair, and Python reads a byte that is not UTF-8 as one (`surrogateescape`).
    """
    return text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text)


def chunked(items: Iterable[T], most: int, most_size: int, size: Callable[[T], int]) -> Iterator[list[T]]:
    """The items in order, at most `most` at once, and fewer where their sizes add up to `most_size`.

    So memory stays bounded however long texts are.
    """
    chunk: list[T] = []
    total = 0
    for item in items:
        chunk.append(item)
        total += size(item)
        if len(chunk) == most or total >= most_size:
            yield chunk
            chunk, total = [], 0
    if chunk:
        yield chunk
