"""Articles and capitals of generated sentences."""

from __future__ import annotations

import pytest

from yourbert.corpus.bundled.draw import sentence


@pytest.mark.parametrize(
    ("rough", "clean"),
    [
        ("a(n) hour and a(n) useful  film", "An hour and a useful film"),
        ("a(n) HTML file. a(n) one-way trip", "An HTML file. A one-way trip"),
        ('she said: "a(n) "odd" day." and left', 'She said: "an "odd" day." And left'),
    ],
)
def test_sentences_get_their_articles_and_capitals(rough: str, clean: str) -> None:
    assert sentence(rough) == clean
