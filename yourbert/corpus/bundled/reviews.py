"""Pairs of long film reviews: the same review with minimal edits that reverse its verdict.

A review tells a plot, quotes other people, who may disagree, and gives its verdict in sentences that contain both
praise and blame. The edit exchanges the two, or replaces one closing remark; everything else is the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from yourbert.corpus.bundled.draw import Draw, Words, sentence, words
from yourbert.corpus.bundled.lexicon import AWFUL, BAD, DISASTER, DOMAINS, GOOD, GREAT, PEOPLE, TRIUMPH

FILMS = DOMAINS[0]
NOISE = 0.03  # the fraction of pairs whose two labels are exchanged
OPENINGS = Words(
    (
        "I saw this {item} on a rainy evening with {people}.",
        "{people} lent me this {item} last week.",
        "We rented the {item} during the holidays.",
        "I came across this {item} late at night on television.",
        "My local cinema showed this {item} as part of a small festival.",
        "This {item} had been on my list for years.",
    ),
    (
        "I watched the {item} twice before writing this.",
        "A friend gave me this {item} on my birthday.",
        "We picked the {item} because nothing else was on.",
    ),
)
PLOTS = words(
    """a retired nurse, two brothers, a young pianist, a taxi driver, a fisherman, an old judge, a
    lonely baker, a night watchman, three students""",
    "a widowed farmer, a bus driver, a shy librarian, four sailors, a chess player",
)
TROUBLES = Words(
    (
        "inherited a house by the sea",
        "got lost on the way to a wedding",
        "witnessed a crime and told nobody",
        "looked for a letter that was never sent",
        "fell in love with the wrong person",
        "tried to save a small theater",
    ),
    ("moved to a town without children", "found a suitcase full of money", "tried to win back an old friend"),
)
TITLES = words(
    "The Glass Harbor, Seven Winters, A Borrowed Coat, North of Nowhere, The Quiet Tenant, Paper Lanterns",
    "The Last Ferry, Salt and Iron, Mister Marlow, Tomorrow's Bread",
)
DETAILS = Words(
    (
        "Most of it was shot in {season}, and the camera stays close to the faces.",
        "It runs for about two hours and has three chapters.",
        "The story takes place in a single {season}.",
        "Some scenes are in black and white, others are not.",
        "There is a long scene in a kitchen and another one on a train.",
    ),
    (
        "The second half moves from the city to the country.",
        "The director also wrote the {season} scenes and the music.",
        "Half of the cast had never been in front of a camera.",
    ),
)
SEASONS = words("summer, winter, autumn", "spring")
# Opinions of other people: {X} is praise or blame, independent of the verdict.
OTHERS = (
    "{people} found it {X}.",
    "{people}, who saw it first, thought it was {X}.",
    "On the poster somebody calls it {X}.",
    "In the row behind us someone whispered that it was {X}.",
    "The book it is based on was {Xn}.",
    'The director\'s last picture, "{title}", was {X}.',
    "The actors saw {Xn} in it.",
)
# Quotations of other people: {remark} is one of the remarks below.
QUOTES = (
    '{people} said: "{remark}"',
    "The comment of {people}: {remark}",
    "To quote {people}: {remark}",
    "{people} sent me this line: '{remark}'",
)
# {D} is the reviewer's view, {O} its opposite; {Dn} and {On} are nouns such as "a masterpiece".
# Each wording is followed by its mirror image, so that the words next to {D} and {O} do not reveal the verdict.
VERDICTS = (
    "What I saw was {Dn}, although I had been told to expect {On}.",
    "I had been told to expect {On}, although what I saw was {Dn}.",
    "I found it {D}, while {people} found it {O}.",
    "{people} found it {O}, while I found it {D}.",
    "The first minutes are {O}, but the {item} as a whole is {D}.",
    "The {item} as a whole is {D}, but the first minutes are {O}.",
    "For me the {item} was {D}; for {people} it was {O}.",
    "For {people} the {item} was {O}; for me it was {D}.",
    "{people} saw {On} in it and I saw {Dn} in it.",
    "I saw {Dn} in it and {people} saw {On} in it.",
    "The trailer looked {O}; the {item} itself was {D}.",
    "The {item} itself was {D}; the trailer looked {O}.",
    "The {aspect} may be {O}, but the {item} is {D}.",
    "The {item} is {D}, but the {aspect} may be {O}.",
    "Last year's version was {On}; this one is {Dn}.",
    "This one is {Dn}; last year's version was {On}.",
)
# Verdicts without another opinion: too few to help a bag-of-words model.
PLAIN = (
    "All in all, the {item} is {D}.",
    "In short, this is {Dn}.",
    "My own verdict: {D}.",
    "I call it {Dn}.",
    "To my mind it is {D}.",
)
SHADES = words(
    """truly, utterly, deeply, thoroughly, absolutely, remarkably, wholly, quite, really, simply, plainly,
        rather""",
    "extremely, incredibly, clearly, genuinely",
)
SIZES = words("real, complete, small, genuine, minor, total, true, rare", "perfect, big, little, absolute")
# Remarks of the reviewer that differ in a few words: (praise, blame).
REMARKS: Words[tuple[str, str]] = Words(
    (
        ("I would gladly see it again.", "I would hardly see it again."),
        ("Nobody should miss it.", "Nobody would miss it."),
        ("I left the cinema smiling.", "I left the cinema yawning."),
        ("The two hours flew by.", "The two hours crawled by."),
        ("I have already told my friends to see it.", "I have already told my friends to skip it."),
        ("It was worth every cent of the ticket.", "It was not worth a cent of the ticket."),
        ("I was sorry when it ended.", "I was not sorry when it ended."),
        ("I did not look at my watch once.", "I looked at my watch more than once."),
        ("Do yourself a favor and see it.", "Do yourself a favor and avoid it."),
        ("I could not stop watching.", "I could not keep watching."),
        ("I am glad that I went.", "I am sorry that I went."),
        ("You will thank me for sending you there.", "You will curse me for sending you there."),
        ("I would pay twice to see it.", "I would pay to forget it."),
        ("It is the best evening I have had in months.", "It is the worst evening I have had in months."),
        ("Go, and take everybody along.", "Stay at home, and keep everybody there."),
        ("The applause went on for minutes.", "The seats emptied within minutes."),
        ("It deserves every prize it can get.", "It deserves no prize that I know of."),
        ("My heart was won after a minute.", "My patience was gone after a minute."),
    ),
    (
        ("I want to own a copy.", "I want my money back."),
        ("It kept me wide awake.", "It put me to sleep."),
        ("I will watch it with my children.", "I will keep it away from my children."),
        ("I would recommend it to anyone.", "I would not recommend it to anyone."),
        ("I applauded at the end.", "I sighed at the end."),
        ("It made my week.", "It ruined my week."),
        ("I loved nearly all of it.", "I hated nearly all of it."),
        ("I was laughing with it.", "I was laughing at it."),
        ("I give it full marks.", "I give it a single star."),
    ),
)


def adjective(draw: Draw, side: int) -> str:
    lists = (GREAT, GOOD, FILMS.good) if side > 0 else (AWFUL, BAD, FILMS.bad)
    return draw.word(draw.one(lists))


def shaded(draw: Draw, side: int) -> str:
    return f"{draw.word(SHADES)} {adjective(draw, side)}" if draw.chance(0.8) else adjective(draw, side)


def thing(draw: Draw, side: int) -> str:
    return f"a(n) {draw.word(SIZES)} {draw.word(TRIUMPH if side > 0 else DISASTER)}"


def review(draw: Draw) -> tuple[str, str]:
    """One review in two versions, praise and blame; with probability NOISE they are exchanged."""
    shared = {
        "item": draw.word(FILMS.item),
        "aspect": draw.word(FILMS.aspect),
        "season": draw.word(SEASONS),
        "title": draw.word(TITLES),
    }

    def spoken(template: str) -> str:
        side = draw.one((-1, 1))
        return template.format(X=shaded(draw, side), Xn=thing(draw, side), people=draw.word(PEOPLE), **shared)

    start = [spoken(draw.word(OPENINGS)), f"It is about {draw.word(PLOTS)} who {draw.word(TROUBLES)}."]
    chosen = [2 * place + draw.one((0, 1)) for place in draw.some(range(len(VERDICTS) // 2), 2)]
    verdicts = [verdict(draw, VERDICTS[place], shared) for place in chosen]
    if draw.chance(0.55):
        verdicts.append(verdict(draw, draw.one(PLAIN), shared))
    remarks = [draw.word(REMARKS)] if draw.chance(0.7) else []
    quoted = draw.word(REMARKS)[draw.one((0, 1))]
    quote = draw.one(QUOTES).format(people=draw.word(PEOPLE), remark=quoted)
    middle = [draw.one((quote, spoken(draw.one(OTHERS)))), spoken(draw.word(DETAILS))]
    parts: list[tuple[str, str]] = [(text, text) for text in middle]
    parts = draw.shuffled(parts + verdicts + remarks)
    praising, blaming = (join(start + [part[side] for part in parts]) for side in (0, 1))
    return (blaming, praising) if draw.chance(NOISE) else (praising, blaming)


def verdict(draw: Draw, template: str, shared: dict[str, str]) -> tuple[str, str]:
    """A sentence of the verdict in both versions, which exchange the words of praise and blame."""
    people = draw.word(PEOPLE)
    words_of = (shaded(draw, 1), shaded(draw, -1))
    nouns = (thing(draw, 1), thing(draw, -1))
    sides = []
    for side in (0, 1):
        slots = {"D": words_of[side], "O": words_of[1 - side], "Dn": nouns[side], "On": nouns[1 - side]}
        sides.append(template.format(people=people, **slots, **shared))
    return sides[0], sides[1]


def join(parts: Sequence[str]) -> str:
    return sentence(" ".join(parts))
