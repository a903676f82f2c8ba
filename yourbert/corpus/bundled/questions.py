"""Pairs of questions that are duplicates or not.

Duplicates range from a small change of wording to a different sentence. The other pairs differ as little or as much:
they swap roles, use an antonym, another name or number, or ask something else about the same things.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from yourbert.corpus.bundled.draw import Draw, Words, sentence, words
from yourbert.corpus.bundled.names import CITIES, JOBS, SUBJECTS
from yourbert.corpus.bundled.topics import FRAMES, Frame

DUPLICATES = 0.37
NOISE = 0.02  # the fraction of pairs with a wrong label; human annotators disagree more often
SAME_WORDING = {True: 0.3, False: 0.45}  # by label, the fraction of pairs in which both questions have the same wording
NUMBERS = words("two|2, three|3, four|4, six|6", "five|5, eight|8, ten|10")
OPENINGS = (
    "I am a(n) {job} from {city}. ",
    "I am new to {subject}. ",
    "A friend in {city} asked me this. ",
    "My brother, a(n) {job}, wants to know this. ",
    "Serious question. ",
    "I am curious. ",
)
ENDINGS = (" Thanks!", " Any ideas?", " I am from {city}.", " A(n) {job} told me to ask.", " Just curious.")
DECORATED = 0.12  # the probability of an irrelevant opening, and of an ending

Change = Literal["none", "swap", "opposite", "place", "number", "ask", "topic"]


@dataclass(frozen=True)
class Question:
    """The meaning of a question, without its wording. `side` selects one of the two opposites."""

    frame: Frame
    ask: int
    a: str
    b: str
    n: str
    opposites: tuple[str, str]
    side: int


def question(draw: Draw, frame: Frame) -> Question:
    a = draw.word(frame.a)
    b = draw.other(frame.b, a) if frame.directed else draw.word(frame.b)
    ask = draw.one(range(len(frame.asks)))
    return Question(frame, ask, a, b, draw.word(NUMBERS), draw.word(frame.opposites), draw.one((0, 1)))


def change(draw: Draw, asked: Question) -> tuple[Change, Question]:
    """A question that differs from `asked`, and the kind of the difference."""
    frame = asked.frame
    options: list[tuple[float, Change]] = [(1.2, "place"), (3.2, "ask"), (0.7, "topic")]
    if frame.directed:
        options.append((0.6, "swap"))
    if frame.opposites.train[0][0]:
        options.append((1.1, "opposite"))
    if frame.counted:
        options.append((1.0, "number"))
    kind = draw.weighted(options)
    if kind == "swap":
        return kind, replace(asked, a=asked.b, b=asked.a)
    if kind == "opposite":
        return kind, replace(asked, side=1 - asked.side)
    if kind == "number":
        return kind, replace(asked, n=draw.other(NUMBERS, asked.n))
    if kind == "ask":
        return kind, replace(asked, ask=(asked.ask + 1) % len(frame.asks))
    if kind == "topic":
        return kind, question(draw, draw.other(Words(FRAMES, ()), frame))
    if frame.b.train == ("",) or draw.chance(0.5):
        return kind, replace(asked, a=draw.other(frame.a, asked.a, asked.b))
    return kind, replace(asked, b=draw.other(frame.b, asked.a, asked.b))


def wording(draw: Draw, asked: Question, template: str) -> str:
    """The text of a question, with any of the names of each thing, sometimes with an opening or an ending."""
    named = {key: draw.one(getattr(asked, key).split("|")) for key in ("a", "b", "n")}
    text = template.format(f=draw.one(asked.opposites[asked.side].split("|")), **named)
    start, end = (draw.one(options) if draw.chance(DECORATED) else "" for options in (OPENINGS, ENDINGS))
    about = {"job": draw.word(JOBS), "city": draw.word(CITIES), "subject": draw.word(SUBJECTS)}
    about = {key: names.split("|")[0] for key, names in about.items()}
    return sentence(start.format(**about) + text + end.format(**about))


def row(draw: Draw) -> tuple[str, str, float]:
    """Two questions, and 1.0 if they are duplicates, else 0.0."""
    first = question(draw, draw.one(FRAMES))
    same = draw.chance(DUPLICATES)
    second = first if same else change(draw, first)[1]
    template = draw.one(first.frame.asks[first.ask])
    choices = second.frame.asks[second.ask]
    if template not in choices or not draw.chance(SAME_WORDING[same]):
        other = draw.one([choice for choice in choices if choice != template])
    else:
        other = template
    texts = wording(draw, first, template), wording(draw, second, other)
    if texts[0] == texts[1]:
        return row(draw)
    label = same if not draw.chance(NOISE) else not same
    return texts[0], texts[1], float(label)
