"""The scope of a negation, marked in the text: does it help to be told what a "not" reaches?

A scope begins behind the word that negates and ends before the next mark of punctuation, "but", "though" or "although",
or with the text, as in Das and Chen (2007), "Yahoo! for Amazon". It is put between braces, which are word pieces of
their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import yourbert.tokens.tokenize_task
from benchmarks.switches import changed
from yourbert.corpus.rows import Row, SplitRows
from yourbert.report.page.error_analysis import NEGATION

END = r"""[.,;:!?()"]|--|\b(?:but|though|although)\b|$"""
SCOPE = re.compile(rf"(?P<negates>{NEGATION.pattern})\s*(?P<scope>.*?)\s*(?={END})", re.IGNORECASE | re.DOTALL)


def marked(text: str) -> str:
    """The text with every scope that is not empty in braces; a negation inside one is not marked again."""
    return SCOPE.sub(lambda m: f"{m['negates']} {{ {m['scope']} }} " if m["scope"] else m[0], text)


class MarkedRows(SplitRows):
    """The rows of a split, their texts with marked scopes."""

    def __iter__(self) -> Iterator[Row]:
        for row in super().__iter__():
            yield row._replace(texts=[marked(text) for text in row.texts])


@contextmanager
def scopes_marked() -> Iterator[None]:
    with changed(yourbert.tokens.tokenize_task, SplitRows=MarkedRows):
        yield
