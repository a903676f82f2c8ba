"""What counts as text: characters that can be seen, and nothing that is half a character."""

import re

# Control characters, soft hyphen, zero-width and bidirectional marks: on no screen, yet in the text.
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def is_empty(text: str) -> bool:
    """Whether nothing of a text is to be seen."""
    return not HIDDEN.sub("", text).strip()


def is_text(words: str) -> bool:
    """Whether these are characters alone: half of a surrogate pair, or a byte that was none of UTF-8, is not."""
    return words.isascii() or not any("\ud800" <= c <= "\udfff" for c in words)
