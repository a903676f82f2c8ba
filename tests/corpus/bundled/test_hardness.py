"""No bundled task can be solved by counting words: linear models of words and word pairs stay low.

The ceilings leave a few points over what was measured; a fine-tuned MiniLM-L6 stands at least 15 points
higher.
"""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from yourbert.corpus.bundled import generate

# For the best of all settings below, chosen on dev itself: a generous opponent. Measured: 0.52, 0.68, 0.72, 0.47.
CEILINGS = {"ids-sst": 0.55, "ids-cfimdb": 0.70, "quora": 0.73, "sts": 0.55}
STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)
SURPLUS = 0.5  # the most that the presence of a word may add to the share of a label
FREQUENT = 20
TASKS = {corpus.prefix: corpus for corpus in generate.CORPORA}
Rows = list[tuple[tuple[str, ...], float]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundled")
    generate.write(path)
    return path


def read(folder: Path, task: str, split: str) -> Rows:
    width = len(TASKS[task].columns)
    with (folder / f"{task}-{split}.csv").open(encoding="utf-8", newline="") as file:
        return [(tuple(row[-width:-1]), float(row[-1])) for row in list(csv.reader(file, delimiter="\t"))[1:]]


def features(vectorizer: TfidfVectorizer, rows: Rows) -> sparse.csr_matrix:
    """Words and word pairs; for two texts their sum, difference, product and overlap."""
    sides = [vectorizer.transform([texts[side] for texts, _ in rows]) for side in range(len(rows[0][0]))]
    if len(sides) == 1:
        return sides[0]
    first, second = sides
    shared = sparse.csr_matrix(np.array([overlap(*texts) for texts, _ in rows]))
    return sparse.hstack([first + second, abs(first - second), first.multiply(second), shared]).tocsr()


def overlap(first: str, second: str) -> tuple[float, float, float]:
    one, other = set(first.lower().split()), set(second.lower().split())
    jaccard = len(one & other) / len(one | other)
    return jaccard, jaccard**2, len(one & other) / min(len(one), len(other))


def score(task: str, train: Rows, dev: Rows, words: int, strength: float) -> float:
    vectorizer = TfidfVectorizer(ngram_range=(1, words), sublinear_tf=True, token_pattern=r"\w+")
    vectorizer.fit([text for texts, _ in train for text in texts])
    inputs, asked = features(vectorizer, train), features(vectorizer, dev)
    labels, truth = (np.array([label for _, label in rows]) for rows in (train, dev))
    if task == "sts":
        guess: npt.NDArray[Any] = Ridge(alpha=1 / strength).fit(inputs, labels).predict(asked)
        return float(np.corrcoef(guess, truth)[0, 1])
    guess = LogisticRegression(C=strength, max_iter=1000).fit(inputs, labels).predict(asked)
    return float((guess == truth).mean())


@pytest.mark.parametrize("task", TASKS)
def test_a_bag_of_words_stays_below_the_ceiling(folder: Path, task: str) -> None:
    train, dev = read(folder, task, "train"), read(folder, task, "dev")
    best = max(score(task, train, dev, words, strength) for words in (1, 2) for strength in STRENGTHS)
    assert best <= CEILINGS[task], f"{task}: counting words reaches {best:.3f}"


@pytest.mark.parametrize("task", TASKS)
def test_no_single_word_gives_a_label_away(folder: Path, task: str) -> None:
    rows = read(folder, task, "train")
    labels = [label if task != "sts" else float(label >= 3) for _, label in rows]
    prior = {label: count / len(rows) for label, count in Counter(labels).items()}
    seen: dict[str, Counter[float]] = {}
    for (texts, _), label in zip(rows, labels, strict=True):
        for word in {word.strip(".,;?!'\"").lower() for text in texts for word in text.split()}:
            seen.setdefault(word, Counter())[label] += 1
    for word, counts in seen.items():
        if (total := counts.total()) >= FREQUENT:
            label, most = counts.most_common(1)[0]
            surplus = most / total - prior[label]
            assert surplus <= SURPLUS, f"{word!r}: {label:g} in {most} of {total} rows"
