"""Texts in which tokenizers differ: accents, scripts, white space, control characters, names of special tokens."""

from __future__ import annotations

import random
from collections.abc import Sequence

WORDS = (
    *("the", "film", "was", "good", "bad", "not", "very", "unable", "ably", "The", "FILM", "könnte", "konnte", "schön"),
    *(
        "größte",
        "Für",
        "café",
        "cafe\u0301",
        "CAFÉ",
        "żeby",
        "が",
        "か",
        "げ",
        "か\u3099",
        "中文",
        "任务有人",
        "film中",
    ),
    *("한국어", "ภาษา", "мир", "straße", "İstanbul", "\u017f", "\ufb01", "a1", "1a", "3.5", "don't", "@me", "#tag"),
    *("a_b", "e-mail", "x²"),
)
PIECES = (
    *"abcXYZ09.,!?'\"()-_/@#<>[]{}~^`$%&*+=|\\:; ", *"\t\n\r\x00\x07\x1b\x7f\x85\xa0\xad", "\u200b", "\u200d", "\u202e",
    "\u2028", "\u3000", "\ufeff", "\ufffd", "\u0301", "\u0323", "\u4e2d", "\u30d5", "\u0645", "\U0001f600",
    "\U0001f1e9\U0001f1ea", "\U00020000", "[MASK]", "[mask]", "[SEP]", "[CLS", "[UNK]", "[PAD]", "##able", "o" * 101,
)  # fmt: skip


def odd_texts(count: int, names: Sequence[str] = (), seed: int = 1) -> list[str]:
    """The same texts for the same arguments. names: of added tokens, which occur alone, within words, in upper case."""
    rng = random.Random(seed)
    named = [form for name in names for form in (name, name.upper(), f"x{name}", f"{name}s", f" {name} ")]
    texts = []
    for _ in range(count):
        parts = [rng.choice(rng.choice((WORDS, PIECES, named or WORDS))) for _ in range(rng.randrange(12))]
        texts.append(rng.choice(("", " ")).join(parts))
    return texts
