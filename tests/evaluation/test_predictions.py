"""Prediction files survive a round trip; submission files equal those of the course's code byte for byte."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yourbert.core.errors import UserError
from yourbert.core.tasks import Task
from yourbert.evaluation import metrics
from yourbert.evaluation import predictions as files


def task(name: str, labels: tuple[str, ...] = ()) -> Task:
    return Task(
        name=name,
        kind="classification" if labels else "similarity",
        labels=labels,
        low=0,
        high=1 if labels else 5,
        pair=not labels,
        encoding="cross",
        metric="accuracy" if labels else "pearson",
        max_length=128,
        truncation_side="right",
    )


SST = task("sst", ("0", "1", "2", "3", "4"))
QUORA = task("quora", ("0.0", "1.0"))
STS = task("sts")
QUORA_PROBABILITIES = np.array([[0.25, 0.75], [2 / 3, 1 / 3]])


def test_a_classification_file_has_the_documented_columns(tmp_path: Path) -> None:
    path = tmp_path / "quora-dev.csv"
    files.write_predictions(path, QUORA, ["a1", "b2"], QUORA_PROBABILITIES, np.array([1, 1]))
    assert path.read_bytes() == (
        b"id,label,prediction,p_0.0,p_1.0\n"  # the header
        b"a1,1.0,1.0,0.25,0.75\n"
        b"b2,1.0,0.0,0.666667,0.333333\n"
    )


def test_a_similarity_file_without_labels_leaves_them_empty(tmp_path: Path) -> None:
    path = tmp_path / "sts-test.csv"
    files.write_predictions(path, STS, ["a", "b"], np.array([3.14159265, -0.0], np.float32), None)
    assert path.read_bytes() == b"id,label,prediction\na,,3.1415927\nb,,0\n"
    assert files.read_predictions(path, STS).labels_R is None


@pytest.mark.parametrize(
    ("task", "heading", "outputs", "lines"),
    [
        (SST, "Predicted_Sentiment", np.eye(5)[[3, 0]], b"a1 , 3 \nb2 , 0 \n"),
        (QUORA, "Predicted_Is_Paraphrase", QUORA_PROBABILITIES, b"a1 , 1.0 \nb2 , 0.0 \n"),
        (STS, "Predicted_Similiary", np.array([2.5, 4.0]), b"a1 , 2.5 \nb2 , 4 \n"),
        (task("mood", ("bad", "good")), "X", QUORA_PROBABILITIES, b"a1 , 1 \nb2 , 0 \n"),
        (task("half", ("0.5", "1.5")), "X", QUORA_PROBABILITIES, b"a1 , 1.5 \nb2 , 0.5 \n"),
    ],
)
def test_submission_files_have_the_format_of_the_course(
    tmp_path: Path, task: Task, heading: str, outputs: metrics.Array, lines: bytes
) -> None:
    path = tmp_path / "out.csv"
    files.write_submission(path, task, heading, ["a1", "b2"], outputs)
    assert path.read_bytes() == b"id \t " + heading.encode() + b" \n" + lines


ids = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=12)  # lines of ids.txt


@given(st.lists(ids, min_size=1, max_size=8), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_round_trip_keeps_every_id_and_every_score(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], seed: int
) -> None:
    path = tmp_path_factory.mktemp("p") / "sst-dev.csv"
    rng = np.random.default_rng(seed)
    outputs_RC, labels_R = rng.dirichlet(np.ones(5), len(names)), rng.integers(0, 5, len(names))
    files.write_predictions(path, SST, names, outputs_RC, labels_R)
    back = files.read_predictions(path, SST)
    assert list(back.ids) == names
    np.testing.assert_array_equal(back.predicted_R, outputs_RC.argmax(axis=1))
    np.testing.assert_array_equal(back.labels_R, labels_R)
    assert back.probabilities_RC is not None
    np.testing.assert_allclose(back.probabilities_RC, outputs_RC, rtol=1e-5)


def test_labels_with_commas_quotes_and_newlines_survive(tmp_path: Path) -> None:
    odd = task("odd", ('a,"b"', "c\nd"))
    files.write_predictions(tmp_path / "p.csv", odd, ["x", "y"], np.eye(2), np.array([0, 0]))
    back = files.read_predictions(tmp_path / "p.csv", odd)
    assert back.predicted_R.tolist() == [0, 1] and back.labels_R is not None and back.labels_R.tolist() == [0, 0]


def test_a_tie_in_the_written_digits_does_not_change_the_prediction(tmp_path: Path) -> None:
    outputs_RC = np.array([[0.5 - 1e-9, 0.5 + 1e-9]])
    files.write_predictions(tmp_path / "p.csv", QUORA, ["x"], outputs_RC, np.array([1]))
    assert files.read_predictions(tmp_path / "p.csv", QUORA).predicted_R.tolist() == [1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected the columns"),
        ("id,label,prediction,p_0,p_1\n", "expected the columns"),
        ("id,label,prediction,p_0.0,p_1.0\nx,1.0\n", ":2: 2 fields, the header has 5"),
        ("id,label,prediction,p_0.0,p_1.0\nx,1.0,7,0,1\n", ":2: '7' is not a label of task 'quora'"),
        ("id,label,prediction,p_0.0,p_1.0\nx,1.0,1.0,nan,1\n", ":2: 'nan' is not a number"),
        ("id,label,prediction,p_0.0,p_1.0\nx,1.0,1.0,0,1\ny,,1.0,0,1\n", ":3: no label, but"),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "quora-dev.csv"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        files.read_predictions(path, QUORA)
    assert message in str(caught.value) and "YB-C01" in str(caught.value) and "dvc repro" in str(caught.value)


def test_a_missing_file_names_the_fix(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"C01.*sst-dev.csv.*missing.*dvc repro"):
        files.read_predictions(tmp_path / "sst-dev.csv", SST)


def evaluated(task: Task, outputs: metrics.Array, labels: metrics.Array) -> dict[str, Any]:
    return files.evaluate_split(task, "dev", outputs, labels, resamples=200, confidence=0.95)


def test_evaluate_split_gives_the_block_of_a_metrics_file() -> None:
    rng = np.random.default_rng(0)
    found = evaluated(SST, rng.dirichlet(np.ones(5), 90), rng.integers(0, 5, 90))
    names = {"accuracy", "macro_f1", "mcc"}
    assert set(found) == names | {f"{n}_{end}" for n in names for end in ("low", "high")} | {"rows"}
    assert found["rows"] == 90
    assert all(v == round(v, 5) for v in found.values())
    json.dumps(found, allow_nan=False)


def test_an_undefined_score_leaves_a_status_not_a_nan() -> None:
    found = evaluated(STS, np.linspace(0, 5, 9), np.full(9, 3.0, np.float32))
    assert found == {"rows": 9, "status": "undefined: every label is 3"}


def test_overall_scores_need_every_task_on_the_split() -> None:
    blocks = {"sst": {"dev": {"accuracy": 0.5}, "test": {"accuracy": 0.6}}, "sts": {"dev": {"pearson": 0.8}}}
    assert files.overall_scores([SST, STS], blocks) == {"dev": 0.7}


def test_confusion_rows_are_label_texts_of_classifications_only(tmp_path: Path) -> None:
    rows = files.confusion_rows(QUORA, QUORA_PROBABILITIES, np.array([0, 0]))
    files.write_confusion(tmp_path / "c.csv", rows)
    with (tmp_path / "c.csv").open() as file:
        assert list(csv.reader(file)) == [
            ["task", "actual", "predicted"],
            ["quora", "0.0", "1.0"],
            ["quora", "0.0", "0.0"],
        ]
    assert list(files.confusion_rows(STS, np.array([1.0]), np.array([1.0]))) == []
