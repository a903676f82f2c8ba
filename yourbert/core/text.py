"""What counts as text: at least one visible character, and no half of a character. How much of it is held at once.

Corpus files, prediction input, explanations and server requests are checked by the same functions, so that a text that
a model can be trained on is also accepted by all that use the model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
# Control characters, soft hyphen, zero-width and bidirectional marks: part of the text, but invisible.
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def is_empty(text: str) -> bool:
    """Whether a text has no visible character."""
    return not HIDDEN.sub("", text).strip()


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
