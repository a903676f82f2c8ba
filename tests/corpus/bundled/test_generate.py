"""The bundled corpora are the same bytes every time, balanced, small, without leakage, and hard."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from tests.support.closure import ROOT
from yourbert.corpus.bundled import generate

SPLITS = ("train", "dev", "test-student")
TASKS = {corpus.prefix: corpus for corpus in generate.CORPORA}
FILES = [f"{task}-{split}.csv" for task in TASKS for split in SPLITS]
LIMIT = 3_000_000  # bytes of the whole folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundled")
    generate.write(path)
    return path


def table(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter="\t"))


def read(folder: Path, task: str, split: str) -> list[tuple[tuple[str, ...], str]]:
    """(texts, label) of each row."""
    width = len(TASKS[task].columns)
    return [(tuple(row[-width:-1]), row[-1]) for row in table(folder / f"{task}-{split}.csv")[1:]]


def test_a_second_run_writes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    generate.write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


@pytest.mark.parametrize("name", FILES)
def test_the_tracked_data_are_what_the_generator_writes(folder: Path, name: str) -> None:
    if not (ROOT / "data" / name).exists():
        pytest.skip("data/ is not checked out")
    if (ROOT / "data" / name).read_bytes() != (folder / name).read_bytes():
        pytest.fail(f"data/{name} differs: run `python -m yourbert.corpus.bundled.generate data`")


@pytest.mark.parametrize("task", TASKS)
def test_layout_follows_the_cs224n_release(folder: Path, task: str) -> None:
    for split, size in zip(SPLITS, TASKS[task].sizes, strict=True):
        header, *rows = table(folder / f"{task}-{split}.csv")
        student = split == "test-student" and task.startswith("ids-")
        assert header == (["0"] if student else []) + ["", "id", *TASKS[task].columns]
        assert len(rows) == size
        assert {len(row) for row in rows} == {len(header)}
        assert [row[0] for row in rows] == [str(place + student) for place in range(size)]


@pytest.mark.parametrize("task", TASKS)
def test_ids_are_unique_and_like_the_originals(folder: Path, task: str) -> None:
    width = len(TASKS[task].columns)
    ids = [row[-width - 1] for split in SPLITS for row in table(folder / f"{task}-{split}.csv")[1:]]
    assert len(set(ids)) == len(ids)
    assert all(len(name) == 25 and set(name) <= set("0123456789abcdef") for name in ids)


def test_the_folder_is_small_and_some_fields_are_quoted(folder: Path) -> None:
    assert sum(path.stat().st_size for path in folder.iterdir()) < LIMIT
    for task in ("ids-sst", "ids-cfimdb", "quora"):
        quoted = sum('"' in text for texts, _ in read(folder, task, "train") for text in texts)
        assert quoted > 10, f"{task}: no field exercises csv quoting"


@pytest.mark.parametrize("task", TASKS)
def test_no_text_is_in_two_splits_or_has_two_labels(folder: Path, task: str) -> None:
    rows = {split: read(folder, task, split) for split in SPLITS}
    texts = {split: {text.lower() for row, _ in found for text in row} for split, found in rows.items()}
    assert not texts["train"] & texts["dev"]
    assert not (texts["train"] | texts["dev"]) & texts["test-student"]
    every = [tuple(sorted(row)) for found in rows.values() for row, _ in found]
    assert len(set(every)) == len(every), "the same row twice"
    assert all(len(set(row)) == len(row) for row in every), "a text paired with itself"


@pytest.mark.parametrize("split", SPLITS)
def test_labels_are_balanced(folder: Path, split: str) -> None:
    stars = shares(folder, "ids-sst", split)
    assert set(stars) == set("01234") and min(stars.values()) > 0.14 and max(stars.values()) < 0.26
    assert shares(folder, "ids-cfimdb", split) == {"0": 0.5, "1": 0.5}
    assert 0.30 < shares(folder, "quora", split)["1.0"] < 0.44
    similarity = [float(label) for _, label in read(folder, "sts", split)]
    assert min(similarity) >= 0 and max(similarity) == 5
    bands = Counter(min(4, int(value)) for value in similarity)
    assert min(bands[band] for band in range(5)) > 0.06 * len(similarity)


def shares(folder: Path, task: str, split: str) -> dict[str, float]:
    rows = read(folder, task, split)
    return {label: count / len(rows) for label, count in Counter(label for _, label in rows).items()}


@pytest.mark.parametrize("split", SPLITS)
def test_both_versions_of_a_review_share_most_words_and_a_split(folder: Path, split: str) -> None:
    rows = read(folder, "ids-cfimdb", split)
    praise = [set(texts[0].split()) for texts, label in rows if label == "1"]
    blame = [set(texts[0].split()) for texts, label in rows if label == "0"]
    closest = [max(len(one & other) / len(one | other) for other in blame) for one in praise]
    assert sorted(closest)[len(closest) // 20] > 0.7
    lengths = [len(texts[0].split()) for texts, _ in rows]
    assert min(lengths) >= 55 and max(lengths) <= 115


def test_dev_and_test_have_words_that_are_not_in_training(folder: Path) -> None:
    for task in TASKS:
        known, asked = words(folder, task, "train"), words(folder, task, "dev")
        assert len(asked - known) > 20, task


def words(folder: Path, task: str, split: str) -> set[str]:
    return {
        word.strip(".,;?!'\"").lower() for texts, _ in read(folder, task, split) for t in texts for word in t.split()
    }


# The highest score allowed for the best of the settings below, chosen on dev itself. Measured: 0.52, 0.68, 0.72, 0.47.
CEILINGS = {"ids-sst": 0.55, "ids-cfimdb": 0.70, "quora": 0.73, "sts": 0.55}


STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)
SURPLUS = 0.5  # the most that the presence of a word may add to the share of a label
FREQUENT = 20
Rows = list[tuple[tuple[str, ...], float]]


def judged(folder: Path, task: str, split: str) -> Rows:
    """(texts, label as a number) of each row."""
    return [(texts, float(label)) for texts, label in read(folder, task, split)]


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


@pytest.mark.integration
@pytest.mark.parametrize("task", TASKS)
def test_a_bag_of_words_stays_below_the_ceiling(folder: Path, task: str) -> None:
    train, dev = judged(folder, task, "train"), judged(folder, task, "dev")
    best = max(score(task, train, dev, words, strength) for words in (1, 2) for strength in STRENGTHS)
    assert best <= CEILINGS[task], f"{task}: counting words reaches {best:.3f}"


@pytest.mark.parametrize("task", TASKS)
def test_no_single_word_gives_a_label_away(folder: Path, task: str) -> None:
    rows = judged(folder, task, "train")
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


MARGIN = 0.10
RUNS = ROOT / "metrics" / "runs"


@pytest.mark.parametrize(
    ("prefix", "task"), [("ids-sst", "sst"), ("ids-cfimdb", "cfimdb"), ("quora", "quora"), ("sts", "sts")]
)
def test_a_fine_tuned_model_is_far_above_the_ceiling_of_a_bag_of_words(prefix: str, task: str) -> None:
    """The metrics are those of `make repro`."""
    for path in sorted(Path(RUNS / task).glob("*.json")):
        dev = json.loads(path.read_text())[task]["dev"]
        score = dev.get("accuracy", dev.get("pearson"))
        assert score > CEILINGS[prefix] + MARGIN, f"{path.name}: {score}"
