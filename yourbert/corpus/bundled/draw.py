"""The random draws of the generator, and the held-out words.

Every list of words has a part for all splits and a held-out part for dev and test only. A model that has memorized the
training words does not know the held-out ones; a pretrained model does. The only method used is
`random.Random.random`, whose sequence Python guarantees.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

T = TypeVar("T")
Split = Literal["train", "dev", "test"]
HELD_SHARE = 0.5  # the fraction of the words drawn for dev and test that is held out from training
SOUNDS_CONSONANT = ("one", "once", "uni", "use", "usual", "eu")
SOUNDS_VOWEL = ("hour", "honest", "heir", "html", "xml", "mp3")


@dataclass(frozen=True)
class Words(Generic[T]):
    """Alternatives for one slot of a sentence: `train` for every split, `held` for dev and test only."""

    train: tuple[T, ...]
    held: tuple[T, ...]

    def __add__(self, other: Words[T]) -> Words[T]:
        return Words(self.train + other.train, self.held + other.held)


def words(train: str, held: str) -> Words[str]:
    """Two comma-separated lists as `Words`; line breaks and spaces around the commas are ignored."""
    return Words(_listed(train), _listed(held))


def _listed(text: str) -> tuple[str, ...]:
    return tuple(" ".join(part.split()) for part in text.split(",") if part.strip())


class Draw:
    """The random generator for one split of one task."""

    def __init__(self, seed: str, split: Split) -> None:
        self._random = random.Random(seed)
        self.split = split

    def chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def one(self, options: Sequence[T]) -> T:
        return options[int(self._random.random() * len(options))]

    def some(self, options: Sequence[T], count: int) -> list[T]:
        """`count` of the options without replacement, in random order."""
        return self.shuffled(options)[:count]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        keyed = sorted((self._random.random(), place) for place in range(len(options)))
        return [options[place] for _, place in keyed]

    def weighted(self, options: Sequence[tuple[float, T]]) -> T:
        left = self._random.random() * sum(weight for weight, _ in options)
        for weight, option in options:
            left -= weight
            if left < 0:
                return option
        return options[-1][1]

    def word(self, choice: Words[T]) -> T:
        held = self.split != "train" and bool(choice.held) and self.chance(HELD_SHARE)
        return self.one(choice.held if held else choice.train)

    def other(self, choice: Words[T], *taken: T) -> T:
        """A word that is not in `taken`."""
        while (word := self.word(choice)) in taken:
            pass
        return word


def sentence(text: str) -> str:
    """`text` with "a(n)" resolved, sentences capitalized, and single spaces."""
    text = re.sub(r"\b([Aa])\(n\) (\W?)(\w+)", _article, " ".join(text.split()))
    return re.sub(r"(^\W?|[.?!]\"? )([a-z])", lambda found: found[1] + found[2].upper(), text)


def _article(found: re.Match[str]) -> str:
    word = found[3].lower()
    vowel = word.startswith(SOUNDS_VOWEL) or (word[0] in "aeiou" and not word.startswith(SOUNDS_CONSONANT))
    return f"{found[1]}{'n' if vowel else ''} {found[2]}{found[3]}"
