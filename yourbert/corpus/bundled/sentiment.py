"""One-sentence reviews with five labels, by the side and the strength of the clause that counts.

Under every label, nearly every sentence contains a word of praise and a word of blame, each strong or mild. Grammar
(contrast, negation, whose opinion it is, expectation and outcome) determines which of them counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from yourbert.corpus.bundled.draw import Draw, sentence
from yourbert.corpus.bundled.lexicon import (
    AWFUL,
    BAD,
    DISASTER,
    DOMAINS,
    GOOD,
    GREAT,
    PEOPLE,
    RATHER,
    TRIUMPH,
    VERY,
    Domain,
)

NOISE = 0.03  # the fraction of rows whose label is changed by one, as annotators disagree

# {D} is the opinion that counts, {O} the other one, as adjective phrases. {Dn}, {On}: as "a(n) dull film".
CONTRAST = (
    "The {aspect} is {O}, but the {item} is {D}.",
    "The {item} is {D}, although the {aspect} is {O}.",
    "Although the {aspect} is {O}, the {item} as a whole is {D}.",
    "The {item} is {D}, even if the {aspect} is {O}.",
    "Granted, the {aspect} is {O}, yet the {item} is {D}.",
    "For all the talk of its {O1} {aspect}, it is {D}.",
    "It is {D}, and no {O1} {aspect} can change that.",
    "The {aspect} may be {O}; the {item} is still {D}.",
    "{Dn} with a(n) {O1} {aspect}.",
    "{Dn}, {O1} {aspect} or not.",
)
VOICES = (
    "{people} called it {O}, but I found it {D}.",
    '{people} called it "{O1}", but I found it {D}.',
    "I found this {item} {D}, whatever {people} said about its {O1} {aspect}.",
    "To me it was {D}; to {people} it was {O}.",
    "{people} kept talking about {On}; what I saw was {Dn}.",
    "I thought it was {D}, and {people} wrongly thought it was {O}.",
    "{people} said it would be {O}, and then it turned out to be {D}.",
    "It was {D}, not {O1} as {people} claimed.",
    "I was told that the {item} was {O}; I can report that it is {D}.",
)
TIMES = (
    "The last {item} was {O}; this one is {D}.",
    "This {item} is {D}, unlike the {O1} one before it.",
    "Unlike its {O1} rival, this {item} is {D}.",
    "What used to be {On} is now {D}.",
    "It is {D} today, and it used to be {O}.",
    "I expected {On} and got {Dn}.",
    "I got {Dn} where I had expected {On}.",
    "It looks {O} at first sight and proves to be {D}.",
    "It proves to be {D}, though it looks {O} at first sight.",
    "Having sat through {On} last week, I find this one {D}.",
    "What we were promised was {On}; what we were given was {Dn}.",
)
ELSEWHERE = (
    "This {item} about a(n) {Og} {about} is {D}.",
    "After a(n) {Og} day at work, the {item} was {D}.",
    "The {item} with the {Og} {about} in it turned out to be {D}.",
    "The weather was {Og} and the {item} was {D}.",
    "It is {D}, and the weather outside is {Og}.",
)
# One opinion, whose polarity a negation may reverse: {X} is its word, {X2} another word of the same side.
MILD_SAME = (
    "There is something {X} about this {item}.",
    "I cannot deny that the {item} is {X}.",
    "It is {X}, and there is no arguing with that.",
    "You could hardly miss how {X} the {aspect} is.",
    "The {item} is both {X} and {X2}.",
    "It never stops being {X}.",
)
MILD_TURNED = (
    "There is nothing {X} about this {item}.",
    "I cannot say that the {item} is {X}.",
    "It is not {X}, and there is no arguing with that.",
    "You could hardly call the {aspect} {X}.",
    "The {item} is neither {X} nor {X2}.",
    "It never starts being {X}.",
)
STRONG_SAME = (
    "I cannot remember a more {X} {item}.",
    "Rarely have I come across a(n) {item} so {X}.",
    "It is every bit the {thing} they said it would be.",
    "No other {item} this year was half as {X}.",
    "It could not have been more {X}.",
    "Nothing could be more {X} than this {item}.",
    "To call this {item} {X} is an understatement.",
)
STRONG_TURNED = (
    "I cannot remember a less {X} {item}.",
    "No other {item} this year was less {X}.",
    "It could not have been less {X}.",
    "Nothing could be less {X} than this {item}.",
)
# Undecided sentences, and decided ones that use the same words.
OPEN = (
    "The {item} is neither {P} nor {N}.",
    "The {aspect} is {P}, the {other} is {N}; that can cancel out.",
    "Half of it is {P} and half of it is {N}.",
    "{people} called it {P}, {people2} called it {N}, and I have no opinion.",
    "I cannot say whether it is {P} or {N}.",
    "It is {P1} and {N1} at once, and I remain undecided.",
    "Some called the {item} {N}, some called it {P}, and both have a point.",
    "The {item} is about a(n) {Ng} {about} and a(n) {Pg} neighbor.",
    "In it we meet a(n) {Pg} {about} in a(n) {Ng} winter.",
    "The {item} is {P} on some days and {N} on others.",
    "It is {N} or it is {P}; that depends on your taste.",
    "I have not tried the {item} yet; {people} said that it was {P}, not {N}.",
    "Whether the {aspect} is {N} or {P} is for others to decide.",
    "A(n) {N1} {aspect} and a(n) {P1} {other}: the {item} is in the middle.",
)
CLOSED = (
    "Half of it is {O}, but on the whole it is {D}.",
    "No {O1} {aspect} can cancel out how {D1} the {item} is.",
    "{people} had no opinion or called it {O}; I found it {D}.",
    "{people} could not say whether it was {O}, but I say it is {D}.",
    "{people} remained undecided, what with the {O1} {aspect}; to me it is {D}.",
    "Those who call it {D1} have a point, those who call it {O1} have not.",
    "It may be {O} on some days, but on most of them it is {D}.",
    "Whether the {aspect} is {O} depends on your taste; the {item} is {D}.",
    "Whether the {aspect} is {O} is for others to decide; the {item} is {D}.",
    "It sags in the middle, where the {aspect} is {O}, and is {D} all the same.",
    "{people} had not tried it yet and said it was {O}; now that I have, it is {D}.",
    "We meet a(n) {Og} {about} in it, and the {item} itself is {D}.",
    "The {item} about my {Og} neighbor and his winter is {D}.",
    "{people} said at once that it was {O}, but I say it is {D}.",
)


@dataclass(frozen=True)
class Opinion:
    """One opinion: its side (+1 or -1) and its strength (1 or 2)."""

    side: int
    strength: int


def before_noun(draw: Draw, domain: Domain | None, opinion: Opinion) -> str:
    """An adjective phrase that can stand before a noun: "truly dull"."""
    if opinion.strength == 2:
        if domain is None or draw.chance(0.6):
            return draw.word(GREAT if opinion.side > 0 else AWFUL)
        return f"{draw.word(VERY)} {mild(draw, domain, opinion.side)}"
    if draw.chance(0.3):
        return f"{draw.word(RATHER)} {mild(draw, domain, opinion.side)}"
    return mild(draw, domain, opinion.side)


def after_verb(draw: Draw, domain: Domain | None, opinion: Opinion) -> str:
    """An adjective phrase for "it is ...", perhaps the negation of the other side: "not without faults"."""
    if opinion.strength == 2 or draw.chance(0.7):
        return before_noun(draw, domain, opinion)
    turned = mild(draw, domain, -opinion.side)
    return draw.one(("not {}", "far from {}", "never {}", "anything but {}", "not at all {}")).format(turned)


def mild(draw: Draw, domain: Domain | None, side: int) -> str:
    """A mild adjective, with probability 1/2 a specific one of the domain; without a domain a general one."""
    if domain is not None and draw.chance(0.5):
        return draw.word(domain.good if side > 0 else domain.bad)
    return draw.word(GOOD if side > 0 else BAD)


def as_noun(draw: Draw, domain: Domain | None, opinion: Opinion, item: str) -> str:
    if opinion.strength == 2 and draw.chance(0.35):
        return f"a(n) {draw.word(TRIUMPH if opinion.side > 0 else DISASTER)}"
    return f"a(n) {before_noun(draw, domain, opinion)} {item}"


def decided(draw: Draw, domain: Domain, opinion: Opinion) -> str:
    """A sentence with two opinions, of which only `opinion` counts."""
    side = -opinion.side if draw.chance(0.9) else opinion.side
    other = Opinion(side, 1 + draw.chance(0.5))
    item = draw.word(domain.item)
    family = draw.weighted(((4.0, CONTRAST), (3.0, VOICES), (4.0, TIMES), (1.5, ELSEWHERE), (5.0, CLOSED)))
    return draw.one(family).format(
        D=after_verb(draw, domain, opinion),
        O=after_verb(draw, domain, other),
        D1=before_noun(draw, domain, opinion),
        O1=before_noun(draw, domain, other),
        Og=before_noun(draw, None, other),
        Dn=as_noun(draw, domain, opinion, item),
        On=as_noun(draw, domain, other, item),
        item=item,
        aspect=draw.word(domain.aspect),
        about=draw.word(domain.about),
        people=draw.word(PEOPLE),
    )


def turned(draw: Draw, domain: Domain, opinion: Opinion) -> str:
    """A sentence with one opinion, with or without a negation with equal probability."""
    straight = draw.chance(0.5)
    side = opinion.side if straight else -opinion.side
    if opinion.strength == 1:
        template = draw.one(MILD_SAME if straight else MILD_TURNED)
    else:
        template = draw.one(STRONG_SAME if straight else STRONG_TURNED)
    word = mild(draw, domain, side)
    general, special = (GOOD, domain.good) if side > 0 else (BAD, domain.bad)
    return template.format(
        X=word,
        X2=draw.other(general + special, word),
        thing=draw.word(TRIUMPH if side > 0 else DISASTER),
        item=draw.word(domain.item),
        aspect=draw.word(domain.aspect),
    )


def undecided(draw: Draw, domain: Domain) -> str:
    strength = 1 + draw.chance(0.5)
    good, bad = Opinion(1, strength), Opinion(-1, strength)
    aspect = draw.word(domain.aspect)
    return draw.one(OPEN).format(
        P=after_verb(draw, domain, good) if strength == 2 else before_noun(draw, domain, good),
        N=after_verb(draw, domain, bad) if strength == 2 else before_noun(draw, domain, bad),
        P1=before_noun(draw, domain, good),
        N1=before_noun(draw, domain, bad),
        Pg=before_noun(draw, None, good),
        Ng=before_noun(draw, None, bad),
        item=draw.word(domain.item),
        aspect=aspect,
        other=draw.other(domain.aspect, aspect),
        about=draw.word(domain.about),
        people=draw.word(PEOPLE),
        people2=draw.word(PEOPLE),
    )


def row(draw: Draw) -> tuple[str, int]:
    """One sentence and its label, 0 (very negative) to 4 (very positive)."""
    label, domain = draw.one(range(5)), draw.one(DOMAINS)
    if label == 2:
        text = undecided(draw, domain)
    else:
        opinion = Opinion(1 if label > 2 else -1, 1 + (label in (0, 4)))
        text = (decided if draw.chance(0.75) else turned)(draw, domain, opinion)
    if draw.chance(NOISE):
        label = min(4, max(0, label + draw.one((-1, 1))))
    return sentence(text), label
