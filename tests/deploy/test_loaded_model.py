"""The Python interface: the predictions of `yourbert predict`, whatever container the texts come in."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import yourbert
from tests.support.predicting import DATA, TASKS, saved, sentence
from yourbert.config.schema import Runtime
from yourbert.deploy.batch import batch_predict
from yourbert.deploy.loaded_model import Classification, LoadedModel, Similarity

TEXTS = [sentence(number) for number in range(40)]
PAIRS = [(sentence(number), sentence(number + 1)) for number in range(40)]
CPU: dict[str, Any] = {"device": "cpu", "precision": "fp32", "num_threads": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("several"), TASKS)


@pytest.fixture(scope="module")
def model(folder: Path) -> LoadedModel:
    return yourbert.load(folder, **CPU)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def mood(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A model of one task."""
    return yourbert.load(str(saved(tmp_path_factory.mktemp("one"), {"mood": TASKS["mood"]})), **CPU)  # type: ignore[no-any-return]


@pytest.mark.parametrize("task", TASKS)
def test_predictions_are_those_of_the_command(folder: Path, model: LoadedModel, task: str, tmp_path: Path) -> None:
    pair = len(DATA[task].text) == 2
    rows: list[Any] = PAIRS if pair else TEXTS
    (tmp_path / "in.txt").write_text("".join("\t".join(row if pair else [row]) + "\n" for row in rows))
    batch_predict(
        folder, str(tmp_path / "in.txt"), task_name=task, columns=[], id_column=None, out=tmp_path / "out.jsonl",
        runtime=Runtime(deterministic=False, **CPU),
    )  # fmt: skip
    expected = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    found = model.predict(rows, task)
    assert len(found) == len(expected) == 40
    for one, row in zip(found, expected, strict=True):
        if isinstance(one, Similarity):
            assert one.value == row["prediction"]
        else:
            assert (one.label, one.probabilities) == (row["prediction"], row["probabilities"])
            assert one.probability == max(one.probabilities.values()) and list(one.probabilities) == DATA[task].labels


def test_every_container_gives_the_same(model: LoadedModel) -> None:
    expected = model.predict(TEXTS, "mood")
    assert isinstance(expected[0], Classification)
    for texts in (tuple(TEXTS), np.array(TEXTS), np.array(TEXTS, dtype=object)):
        assert model.predict(texts, "mood") == expected
    pairs = model.predict(PAIRS, "same")
    assert model.predict([list(pair) for pair in PAIRS], "same") == pairs == model.predict(np.array(PAIRS), "same")


def test_frames_in_are_frames_out(model: LoadedModel) -> None:
    pandas = pytest.importorskip("pandas")
    index = [f"row {number}" for number in range(40)]
    moods = model.predict(pandas.Series(TEXTS, index=index), "mood")
    assert list(moods.columns) == ["prediction", "p_bad", "p_fair", "p_good, very"] and list(moods.index) == index
    assert list(moods.prediction) == [one.label for one in model.predict(TEXTS, "mood")]
    columns = {"second": [b for _, b in PAIRS], "first": [a for a, _ in PAIRS], "other": range(40)}
    frame = pandas.DataFrame(columns, index=index)
    values = [one.value for one in model.predict(PAIRS, "sim")]
    assert list(model.predict(frame, "sim").prediction) == values, "the task's columns, wherever they are"
    other = frame[["first", "second"]].rename(columns={"first": "a", "second": "b"})
    assert list(model.predict(other, "sim").prediction) == values, "or the only columns"
    assert model.predict(frame[:0], "sim").shape == (0, 1)
    with pytest.raises(yourbert.UserError, match=r"I04 texts: task 'mood' reads one text column \(sentence\)"):
        model.predict(frame, "mood")


def test_a_model_of_one_task_needs_no_name_of_it(mood: LoadedModel, model: LoadedModel) -> None:
    assert mood.tasks == ["mood"] and mood.labels() == ["bad", "fair", "good, very"] and model.labels("sim") == []
    assert mood.predict([]) == [] and len(mood.predict(["good film"])) == 1
    assert "mood" in repr(mood) and model.tasks == sorted(TASKS)
    with pytest.raises(yourbert.UserError, match=r'I06 .*several tasks \(mood, same, sim\).*`task="mood"`'):
        model.predict(TEXTS)
    with pytest.raises(yourbert.UserError, match=r"no task 'moods'.*did you mean 'mood'"):
        model.predict(TEXTS, "moods")


@pytest.mark.parametrize(
    ("task", "texts", "says"),
    [
        ("mood", "good film", r"I04 texts: expected a list of texts, got one str.*predict\(\[text\]\)"),
        ("mood", 7, "expected a list of texts, got a int"),
        ("mood", {"a": "b"}, "expected a list of texts, got a dict"),
        ("mood", ["a", None], "I04 row 1: the text is missing"),
        ("mood", ["a", float("nan")], "I04 row 1: the text is missing"),
        ("mood", ["a", 3], "I04 row 1: a int, but the task reads a string"),
        ("mood", [b"a"], "I04 row 0: a bytes"),
        ("mood", [("a", "b")], "I04 row 0: a tuple"),
        ("mood", ["a", " \n"], "I01 row 1: the text is empty"),
        ("mood", ["\ud800"], "D08 row 0"),
        ("sim", ["a"], "I04 row 0: a str, but task 'sim' reads a pair of strings"),
        ("sim", [("a", "b", "c")], "I04 row 0: 3 strings, but task 'sim' reads a pair"),
        ("sim", [("a", "")], "I01 row 0: the text is empty"),
    ],
)
def test_wrong_input_is_named(model: LoadedModel, task: str, texts: Any, says: str) -> None:
    with pytest.raises(yourbert.UserError, match=says):
        model.predict(texts, task)


def test_all_wrong_rows_are_named_at_once(model: LoadedModel) -> None:
    with pytest.raises(yourbert.UserError) as caught:
        model.predict(["", *TEXTS, *[None] * 30], "mood")
    assert caught.value.total == 31 and len(caught.value.problems) == 20


def test_explanations_are_those_of_the_explainer(model: LoadedModel) -> None:
    found = model.explain(TEXTS[5], "mood")
    assert found.prediction == model.predict([TEXTS[5]], "mood")[0].label  # type: ignore[union-attr]
    assert sum(word.weight for word in found.words) + found.baseline_scores[0] == pytest.approx(
        found.score, abs=found.completeness_gap + 1e-4
    )
    assert {word.number for word in model.explain(PAIRS[3], "sim").words} == {0, 1}
    with pytest.raises(yourbert.UserError, match="reads a pair of strings"):
        model.explain("one", "sim")


def test_threads_do_not_disturb_each_other(model: LoadedModel) -> None:
    expected, found = model.predict(TEXTS, "mood"), {}
    threads = [threading.Thread(target=lambda n=n: found.update({n: model.predict(TEXTS, "mood")})) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(found.values()) == [expected] * 4


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(yourbert.UserError, match="C01"):
        yourbert.load(tmp_path / "nothing")
