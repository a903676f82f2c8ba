"""Pairs of short news lines with their similarity, from 0 to 5.

A line reports who did what to whom, how many, where and when. Wording (synonyms, passive voice, order) does not lower
the similarity. Each fact that differs lowers it by the weight of the fact, a fact that one line omits by less. Swapped
roles, a negation or an opposite verb lower it much, although hardly a word changes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from yourbert.corpus.bundled.draw import Draw, Words, sentence, words

Fact = Literal["agent", "verb", "patient", "count", "place", "time"]
WEIGHTS: dict[Fact, float] = {
    "agent": 1.1,
    "verb": 1.3,
    "patient": 1.2,
    "count": 0.6,
    "place": 0.6,
    "time": 0.6,
}
OMITTABLE: tuple[Fact, ...] = ("place", "time")
DENIALS = 0.15  # the fraction of lines that say that something never happened
LEFT_OUT = 0.4  # the reduction for a fact that only one line mentions
SWAPPED, DENIED, OPPOSED = 2.6, 2.6, 2.2
JITTER = 0.2  # noise, as in the mean over annotators


@dataclass(frozen=True)
class Verb:
    """Verbs of one meaning, and verbs of the opposite meaning; each as past tense and participle, "took/taken"."""

    same: tuple[str, ...]
    opposite: tuple[str, ...] = ()


def verbs(text: str) -> tuple[Verb, ...]:
    """Parses "sold, traded in > bought, purchased; ..." """
    found = []
    for part in text.split(";"):
        sides = [tuple(" ".join(word.split()) for word in side.split(",")) for side in part.split(">")]
        found.append(Verb(sides[0], sides[1] if len(sides) > 1 else ()))
    return tuple(found)


PERSONS = words(
    """a teacher|a schoolteacher, a nurse|a hospital nurse, a lawyer|an attorney, a banker|a bank
    manager, a boy|a young lad, a farmer|a local farmer, a thief|a robber, a singer|a vocalist, a
    guard|a security man, a politician|a lawmaker, a driver|a motorist, a coach|a trainer, a cook|a
    chef, a tourist|a visitor from abroad""",
    """a doctor|a physician, a journalist|a reporter, a police officer|a cop, a writer|an author, a
    soldier|a member of the army, an actor|a performer, a girl|a young lady, a scientist|a researcher, a
    priest|a clergyman""",
)
MEETINGS = Words(
    verbs(
        """praised, applauded > criticized, condemned; followed, trailed; helped, assisted > hindered,
        obstructed; phoned, called; photographed, took a picture of/pictured; sued, took to court/taken
        to court; hired, employed > fired, dismissed; beat/beaten, defeated; rescued, saved; pushed,
        shoved > pulled, dragged"""
    ),
    verbs(
        """thanked, expressed gratitude to/thanked > blamed, accused; attacked, assaulted > defended,
        protected; visited, paid a visit to/visited; trusted, had faith in/trusted > distrusted,
        doubted; cheated, tricked; warned, alerted; greeted, welcomed > ignored, snubbed"""
    ),
)
THINGS = words(
    """cars|automobiles, paintings|pictures, boats|small ships, books|volumes, houses|homes, bicycles|bikes,
    computers|PCs, rugs|carpets, coats|jackets, machines|devices""",
    """phones|telephones, statues|sculptures, trucks|lorries, planes|aircraft, letters|notes, shops|stores,
    sofas|couches, rings|gold rings""",
)
DEEDS = Words(
    verbs(
        """bought, purchased > sold, gave away/given away; repaired, fixed > broke/broken, damaged;
        found, discovered > lost, misplaced; stole/stolen, made off with/taken away;
        displayed, exhibited > hid/hidden, concealed; painted, redecorated;
        collected, gathered > threw away/thrown away, discarded"""
    ),
    verbs(
        """rented, hired; destroyed, wrecked > built, constructed; borrowed > lent out, loaned out;
        examined, inspected; cleaned, washed > soiled, dirtied; delivered, dropped off > picked up, fetched"""
    ),
)
COUNTS = words("two|a pair of, three|3, five|5, six|half a dozen, ten|10", "four|4, twelve|a dozen, seven|7, twenty|20")
PLACES = words(
    """in London|in the British capital, near the station|close to the station, at the harbor|in the
    port, in a park|on a lawn, outside the bank|in front of the bank, at the airport|in the terminal, in
    Berlin|in the German capital""",
    """in Paris|in the French capital, at the hospital|in the clinic, in Tokyo|in the Japanese capital, in the
    woods|in the forest, by the river|on the river bank, downtown|in the city center""",
)
TIMES = words(
    """on Monday|at the start of the week, before dawn|ahead of sunrise, at noon|in the middle of the day, on
    Christmas|on December 25, last winter|during the winter, at night|after dark""",
    """on Sunday|on the last day of the week, in the evening|toward sunset, last summer|during the summer,
    on New Year's Day|on January 1, in the morning|after breakfast""",
)


@dataclass(frozen=True)
class Event:
    """What happened. `count` is empty if the patient is a person; an empty `place` or `time` is not mentioned."""

    agent: str
    verb: Verb
    patient: str
    count: str
    place: str
    time: str
    opposed: bool = False
    denied: bool = False


def happening(draw: Draw) -> Event:
    agent = draw.word(PERSONS)
    place, time, denied = draw.word(PLACES), draw.word(TIMES), draw.chance(DENIALS)
    if draw.chance(0.5):
        return Event(agent, draw.word(MEETINGS), draw.other(PERSONS, agent), "", place, time, denied=denied)
    return Event(agent, draw.word(DEEDS), draw.word(THINGS), draw.word(COUNTS), place, time, denied=denied)


def altered(draw: Draw, event: Event, fact: Fact) -> Event:
    """`event` with another value of `fact`, such that the sentence still makes sense."""
    if fact == "verb":
        return replace(event, verb=draw.other(DEEDS if event.count else MEETINGS, event.verb))
    if fact == "agent":
        return replace(event, agent=draw.other(PERSONS, event.agent, event.patient))
    if fact == "patient" and event.count:
        return replace(event, patient=draw.other(THINGS, event.patient))
    if fact == "patient":
        return replace(event, patient=draw.other(PERSONS, event.agent, event.patient))
    if fact == "count":
        return replace(event, count=draw.other(COUNTS, event.count))
    if fact == "place":
        return replace(event, place=draw.other(PLACES, event.place))
    return replace(event, time=draw.other(TIMES, event.time))


def report(draw: Draw, event: Event, names: int, shuffled: bool) -> str:
    """`event` as a line. `names` selects among the synonyms; `shuffled` allows passive voice and another order."""
    agent, patient, count, place, time = (
        value.split("|")[names % len(value.split("|"))]
        for value in (event.agent, event.patient, event.count, event.place, event.time)
    )
    choices = event.verb.opposite if event.opposed else event.verb.same
    past, _, participle = choices[names % len(choices)].partition("/")
    patient = f"{count} {patient}".strip()
    were = "were" if event.count else "was"
    never = draw.one(("never", "never once")) if event.denied else ""
    passive = shuffled and draw.chance(0.6)
    deed = (
        f"{patient} {were} {never} {participle or past} by {agent}" if passive else f"{agent} {never} {past} {patient}"
    )
    if shuffled and time and draw.chance(0.6):
        return sentence(f"{time}, {deed} {place}".strip() + ".")
    return sentence(" ".join(filter(None, (deed, place, time))) + ".")


def pair(draw: Draw) -> tuple[Event, Event, float]:
    """Two events and how similar they are, before jitter."""
    first = happening(draw)
    kind = draw.weighted(((1.0, "same"), (1.5, "one"), (1.6, "some"), (1.0, "part"), (1.1, "trap"), (0.8, "other")))
    facts: list[Fact] = ["agent", "verb", "patient", "place", "time"]
    if first.count:
        facts.append("count")
    if kind == "same":
        return first, first, 5.0
    if kind == "other":
        return first, happening(draw), 0.2
    if kind == "part":
        gone = draw.some(OMITTABLE, draw.one((1, 1, 2)))
        second = replace(
            first,
            place="""""" if """place""" in gone else first.place,
            time="""""" if """time""" in gone else first.time,
        )
        return first, second, 5.0 - LEFT_OUT * len(gone)
    if kind == "trap":
        return trapped(draw, first)
    second, score = first, 5.0
    for fact in draw.some(facts, 1 if kind == "one" else draw.one((2, 3, 3, 4))):
        second, score = altered(draw, second, fact), score - WEIGHTS[fact]
    return first, second, max(0.2, score)


def trapped(draw: Draw, first: Event) -> tuple[Event, Event, float]:
    """Two events whose lines have nearly the same words but a different meaning."""
    if not first.count and draw.chance(0.5):
        return first, replace(first, agent=first.patient, patient=first.agent), 5.0 - SWAPPED
    if first.verb.opposite and draw.chance(0.7):
        return first, replace(first, opposed=True), 5.0 - OPPOSED
    return first, replace(first, denied=not first.denied), 5.0 - DENIED


def row(draw: Draw) -> tuple[str, str, float]:
    """Two lines and their similarity with one decimal."""
    first, second, score = pair(draw)
    reworded = draw.chance(0.65 if score > 4 else 0.35)
    names = draw.one((0, 1))
    texts = [
        report(draw, first, names, draw.chance(0.3)),
        report(draw, second, names + reworded, draw.chance(0.7 if reworded else 0.2)),
    ]
    if texts[0] == texts[1]:
        return row(draw)
    if draw.chance(0.5):
        texts.reverse()
    drift = JITTER * (draw.one(range(-10, 11)) + draw.one(range(-10, 11))) / 10
    return texts[0], texts[1], round(min(5.0, max(0.0, score + drift)), 1)
