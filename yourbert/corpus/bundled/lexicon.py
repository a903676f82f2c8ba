"""Words of praise and blame, and the things they are about: common words that any pretrained model knows."""

from __future__ import annotations

from dataclasses import dataclass

from yourbert.corpus.bundled.draw import Words, words


@dataclass(frozen=True)
class Domain:
    """A kind of thing that people review. `good` and `bad` are mild; `aspect` is a part of an `item`."""

    item: Words[str]
    aspect: Words[str]
    good: Words[str]
    bad: Words[str]
    about: Words[str]


GREAT = words(
    """superb, brilliant, magnificent, wonderful, outstanding, marvelous, exceptional, splendid,
    glorious, stunning, sensational, exquisite, perfect, fantastic, dazzling""",
    """excellent, amazing, phenomenal, terrific, extraordinary, fabulous, flawless, astonishing,
    sublime, incredible""",
)
AWFUL = words(
    """dreadful, terrible, horrible, disastrous, atrocious, abysmal, unbearable, hideous, wretched, appalling,
    disgraceful, horrendous, worthless, hopeless, insufferable""",
    """awful, horrid, ghastly, miserable, pathetic, vile, intolerable, catastrophic, dire, shameful""",
)
GOOD = words(
    """pleasant, likeable, decent, solid, enjoyable, agreeable, nice, good, appealing, satisfying, worthwhile,
    reasonable, attractive""",
    """charming, lovely, fine, respectable, interesting, acceptable, pleasing, delightful""",
)
BAD = words(
    """dull, weak, disappointing, forgettable, mediocre, tiresome, flat, bad, annoying, unpleasant,
    unimpressive, unappealing, careless""",
    """boring, poor, tedious, irritating, lame, unsatisfying, dreary, lousy""",
)
VERY = words("truly, utterly, deeply, thoroughly, absolutely, remarkably, wholly", "extremely, incredibly, intensely")
RATHER = words("rather, fairly, mildly, somewhat", "slightly, reasonably, moderately")
TRIUMPH = words(
    "masterpiece, triumph, gem, treasure, marvel, joy, revelation",
    "delight, sensation, treat, jewel, pleasure",
)
DISASTER = words(
    "disaster, mess, chore, catastrophe, nightmare, bore, fiasco",
    "disgrace, letdown, ordeal, embarrassment, failure",
)
PEOPLE = words(
    """my brother, the critics, my neighbor, my friends, the reviewers, my colleague, my cousin, the
    newspapers, everyone at work, my flatmate""",
    "my sister, my wife, the experts, our guests, my uncle, my parents, my boss",
)

DOMAINS: tuple[Domain, ...] = (
    Domain(
        words("film, movie, thriller, comedy, sequel, drama", "documentary, picture, musical, western"),
        words("acting, ending, dialogue, plot, music, opening scene", "script, love story, soundtrack, finale"),
        words(
            "moving, funny, gripping, witty, tender, clever",
            "touching, hilarious, absorbing, heartfelt, smart",
        ),
        words(
            "predictable, slow, sentimental, noisy, empty, silly",
            "lifeless, humorless, bloated, corny, hollow",
        ),
        words(
            "thief, winter, marriage, detective, war, summer, circus",
            "lawyer, voyage, family, murder, childhood",
        ),
    ),
    Domain(
        words("soup, pizza, breakfast, curry, burger, pasta", "steak, dessert, lunch, stew"),
        words("sauce, starter, coffee, side salad, main course", "filling, cake, cooking, pastry"),
        words(
            "tasty, fresh, hearty, delicate, mouthwatering, filling",
            "delicious, flavorful, juicy, comforting",
        ),
        words("bland, stale, greasy, overpriced, soggy, cold", "tasteless, salty, dry, undercooked, rubbery"),
        words("chef, harvest, recipe, market, farm, garden", "cook, vineyard, kitchen, village, fisherman"),
    ),
    Domain(
        words("hotel, ferry, tour, cruise, campsite, museum", "hostel, resort, train ride, flight, excursion"),
        words("waiting room, bar, gift shop, pool, dining hall", "lobby, terrace, garden, lounge"),
        words(
            "comfortable, scenic, quiet, friendly, clean, relaxing",
            "peaceful, cozy, spacious, picturesque, tidy",
        ),
        words(
            "cramped, dirty, crowded, noisy, chaotic, shabby",
            "filthy, uncomfortable, gloomy, rundown, stuffy",
        ),
        words("island, storm, castle, captain, journey, coast", "valley, explorer, harbor, mountain, pilgrimage"),
    ),
    Domain(
        words("app, update, game, editor, website, phone", "program, browser, laptop, console, search engine"),
        words("design, search function, help page, menu", "camera, login screen, file manager, keyboard"),
        words(
            "fast, reliable, intuitive, handy, elegant, polished",
            "responsive, useful, efficient, stable, practical",
        ),
        words(
            "buggy, sluggish, confusing, clunky, unstable, outdated",
            "slow, frustrating, unreliable, awkward, bloated",
        ),
        words(
            "robot, startup, hacker, factory, network, invention",
            "engineer, company, machine, inventor, spaceship",
        ),
    ),
    Domain(
        words("course, lecture, textbook, novel, workshop, lesson", "class, seminar, book, essay, tutorial"),
        words(
            "first chapter, homework, reading list, exam, introduction",
            "opening part, workbook, last unit, summary",
        ),
        words(
            "clear, inspiring, lively, helpful, informative, original",
            "stimulating, readable, wise, insightful, fun",
        ),
        words("confusing, dry, repetitive, vague, superficial", "monotonous, obscure, muddled, stale, pointless"),
        words(
            "king, revolution, poet, empire, plague, orphan",
            "queen, painter, soldier, rebellion, philosopher",
        ),
    ),
)
