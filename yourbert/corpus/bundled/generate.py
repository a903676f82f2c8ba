"""Writes the bundled corpora: `python -m yourbert.corpus.bundled.generate FOLDER`.

The four tasks have the file names and columns of the CS224N default project, so that either corpus can replace the
other; here the test files have labels. The same seed gives the same bytes on every machine. No text of training or dev
occurs in a later split, and no text or pair has two labels.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from yourbert.core import storage
from yourbert.corpus.bundled import events, questions, reviews, sentiment
from yourbert.corpus.bundled.draw import Draw, Split

SEED = "yourbert-1"
ID_CHARACTERS = 25
LabeledTexts = tuple[tuple[str, ...], str]  # texts, label


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """One task. prefix: the start of its file names. sizes: the rows of train, dev and test.

    make: draws one row, or the rows that belong together, such as a review and its edited version.
    test_header: "student" for the two index columns and the shifted header of the original files.
    """

    prefix: str
    columns: tuple[str, ...]
    sizes: tuple[int, int, int]
    make: Callable[[Draw], list[LabeledTexts]]
    test_header: Literal["plain", "student"]


def sentiment_rows(draw: Draw) -> list[LabeledTexts]:
    text, label = sentiment.row(draw)
    return [((text,), str(label))]


def review_rows(draw: Draw) -> list[LabeledTexts]:
    praise, blame = reviews.review(draw)
    return [((praise,), "1"), ((blame,), "0")]


def question_rows(draw: Draw) -> list[LabeledTexts]:
    first, second, label = questions.row(draw)
    return [((first, second), f"{label:.1f}")]


def event_rows(draw: Draw) -> list[LabeledTexts]:
    first, second, label = events.row(draw)
    return [((first, second), f"{label:.1f}")]


CORPORA: tuple[Corpus, ...] = (
    Corpus(
        prefix="ids-sst",
        columns=("sentence", "sentiment"),
        sizes=(2000, 400, 400),
        make=sentiment_rows,
        test_header="student",
    ),
    Corpus(
        prefix="ids-cfimdb",
        columns=("sentence", "sentiment"),
        sizes=(440, 160, 160),
        make=review_rows,
        test_header="student",
    ),
    Corpus(
        prefix="quora",
        columns=("sentence1", "sentence2", "is_duplicate"),
        sizes=(2600, 500, 500),
        make=question_rows,
        test_header="plain",
    ),
    Corpus(
        prefix="sts",
        columns=("sentence1", "sentence2", "similarity"),
        sizes=(1600, 400, 400),
        make=event_rows,
        test_header="plain",
    ),
)


def rows(corpus: Corpus) -> Iterator[tuple[Split, list[LabeledTexts]]]:
    """The rows of train, dev and test, in this order."""
    used: set[str] = set()  # the texts of earlier splits
    splits: tuple[Split, ...] = ("train", "dev", "test")
    for split, size in zip(splits, corpus.sizes, strict=True):
        draw = Draw(f"{SEED}/{corpus.prefix}/{split}", split)
        drawn: dict[tuple[str, ...], LabeledTexts] = {}
        while len(drawn) < size:
            group = {tuple(sorted(texts)): (texts, label) for texts, label in corpus.make(draw)}
            if not used.intersection(text for texts in group for text in texts) and not group.keys() & drawn.keys():
                drawn |= group
        used.update(text for texts in drawn for text in texts)
        yield split, draw.shuffled(list(drawn.values()))


def write(folder: Path) -> int:
    """Writes the twelve files into `folder` and returns their number of rows."""
    count = 0
    for corpus in CORPORA:
        for split, drawn in rows(corpus):
            name = "test-student" if split == "test" else split
            table = [(identity(corpus, texts), *texts, label) for texts, label in drawn]
            header: tuple[str, ...] = ("", "id", *corpus.columns)
            numbered: list[tuple[object, ...]] = [(place, *row) for place, row in enumerate(table)]
            if split == "test" and corpus.test_header == "student":
                header = ("0", *header)
                numbered = [(place + 1, float(place), *row) for place, row in enumerate(table)]
            storage.write_csv(folder / f"{corpus.prefix}-{name}.csv", header, numbered, delimiter="\t")
            count += len(table)
    return count


def identity(corpus: Corpus, texts: tuple[str, ...]) -> str:
    """An id that depends only on the row's texts, so that it stays the same when other rows change."""
    return hashlib.sha256("\t".join((corpus.prefix, *texts)).encode()).hexdigest()[:ID_CHARACTERS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    sys.stdout.write(f"{write(folder)} rows written to {folder}\n")


if __name__ == "__main__":
    main()
