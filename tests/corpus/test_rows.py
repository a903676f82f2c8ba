"""Every row is used or counted as rejected, and every problem names line, column, task and fix."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.closure import ROOT
from yourbert.config.params import read_params
from yourbert.config.schema import TaskData
from yourbert.core.errors import UserError
from yourbert.core.tasks import SPLITS, Split
from yourbert.corpus.rows import SplitRows, check_file
from yourbert.corpus.sources import FIELD_LIMIT

HEADER = "\tid\ttext\tlabel\n"


def task(**changes: Any) -> TaskData:
    facts: dict[str, Any] = {
        "kind": "classification", "train": "train.tsv", "dev": "dev.tsv", "text": ["text"], "label": "label",
        "id": "id", "labels": ["0", "1", "2"],
    }  # fmt: skip
    return TaskData(**{**facts, **changes})


def similarity(**changes: Any) -> TaskData:
    facts: dict[str, Any] = {
        "kind": "similarity", "train": "train.tsv", "dev": "dev.tsv", "text": ["a", "b"], "label": "score",
        "range": [0.0, 5.0],
    }  # fmt: skip
    return TaskData(**{**facts, **changes})


def file(folder: Path, *rows: str, header: str = HEADER, name: str = "train.tsv") -> Path:
    path = folder / name
    path.write_text(header + "".join(row + "\n" for row in rows), encoding="utf-8", newline="")
    return path


def test_good_rows(tmp_path: Path) -> None:
    rows = SplitRows(file(tmp_path, "7\tx\tfine film\t2", "8\ty\t poor \t0"), "t", task(), "train")
    assert [tuple(row) for row in rows] == [(2, 0, "x", ["fine film"], 2), (3, 1, "y", [" poor "], 0)]
    assert rows.counts.rows_read == rows.counts.rows_used == 2 and not rows.counts.rejected


@pytest.mark.parametrize(("row", "code", "column", "says"), [
    ("0\tz\t\t1", "D20", 3, "the text is empty"),
    ("0\tz\t \u3000\t1", "D20", 3, "the text is empty"),
    ("0\tz\t\u200b\u200e \t1", "D20", 3, "the text is empty"),
    ("0\tz\tfine\t", "D15", 4, "the label is missing"),
    ("0\tz\tfine\tNaN", "D15", 4, "the label is missing"),
    ("0\tz\tfine\tgood", "D14", 4, "label 'good' is not one of 0, 1, 2"),
    ("0\tz\tfine\t1_0", "D14", 4, "label '1_0'"),
    ("0\tz\tfine\t\u0661", "D14", 4, "label '\u0661'"),
    ("0\tz\tfine\t7", "D16", 4, "label '7' is not one of 0, 1, 2"),
    ("0\tz\tfine\t-100", "D16", 4, "label '-100'"),
    ("0\tz\tfine\t1.5", "D17", 4, "label '1.5'"),
    ("0\tx\tfine\t1", "D09", 2, "duplicate id 'x', first used on line 2"),
    ("0\t\tfine\t1", "D09", 2, "invalid id"),
    ('0\t"z\nz"\tfine\t1', "D09", 2, "invalid id"),
])  # fmt: skip
def test_a_bad_row_is_rejected(tmp_path: Path, row: str, code: str, column: int, says: str) -> None:
    path = file(tmp_path, "0\tx\tfirst\t0", row, "0\tw\tlast\t1")
    (problem,) = check_file(path, "movies", task(), "train")
    assert problem.code == code and problem.where == f"{path}:3:{column}" and problem.fix
    assert says in problem.what and "task 'movies', column '" in problem.what
    rows = SplitRows(path, "movies", task(on_invalid_row="drop"), "train")
    assert [kept.id for kept in rows] == ["x", "w"]
    ((line, listed_code, reason),) = rows.counts.to_json()["rejected_lines"]
    assert (line, listed_code) == (3, code) and says in reason and reason.startswith("column '")


def test_a_text_over_the_limit(tmp_path: Path) -> None:
    """In a csv file `csv.reader` reports it; in other formats `SplitRows` does."""
    long = "x" * (FIELD_LIMIT + 1)
    path = tmp_path / "train.jsonl"
    path.write_text('{"id": 1, "text": "%s", "label": 1}\n' % long)  # noqa: UP031 - braces
    (problem,) = check_file(path, "t", task(), "train")
    assert problem.code == "D19" and "1000001 characters" in problem.what
    assert [p.code for p in check_file(file(tmp_path, f"0\tx\t{long}\t1"), "t", task(), "train")] == ["D19"]


@pytest.mark.parametrize("text", ["5.2", "-0.1", "inf", "1_0", "\u0663", "0x1", "1e999", "1,5", " 1"])
def test_a_similarity_is_a_plain_decimal_in_range(tmp_path: Path, text: str) -> None:
    path = file(tmp_path, f"a\tb\t{text}", header="a\tb\tscore\n")
    (problem,) = check_file(path, "t", similarity(), "train")
    assert problem.code == "D18" and problem.where.endswith(":2:3") and "from 0 to 5" in problem.what


@pytest.mark.parametrize(("text", "value"), [("5", 5), ("0.0", 0), (".5", 0.5), ("4.", 4), ("+1e0", 1)])
def test_valid_similarities(tmp_path: Path, text: str, value: float) -> None:
    (row,) = SplitRows(file(tmp_path, f"a\tb\t{text}", header="a\tb\tscore\n"), "t", similarity(), "train")
    assert row.label == value and row.id == "0"


def test_other_spellings_of_a_label_are_counted(tmp_path: Path) -> None:
    data = task(labels=["0.0", "1.0"])
    rows = SplitRows(file(tmp_path, "0\ta\tx\t0", "0\tb\tx\t1.0", "0\tc\tx\t 1.00"), "t", data, "train")
    assert [row.label for row in rows] == [0, 1, 1] and rows.counts.labels_respelled == 2


def test_label_texts_have_a_nearest_one(tmp_path: Path) -> None:
    path = file(tmp_path, "0\ta\tx\tpositve")
    (problem,) = check_file(path, "t", task(labels=["negative", "positive"]), "train")
    assert problem.code == "D14" and "did you mean 'positive'?" in problem.what


def test_all_problems_of_a_row_are_reported_the_label_first(tmp_path: Path) -> None:
    path = file(tmp_path, "0\tx\tfine\t1", "0\tx\t\t")
    assert [p.code for p in check_file(path, "t", task(), "train")] == ["D15", "D20", "D09"]
    rows = SplitRows(path, "t", task(on_invalid_row="drop"), "train")
    assert len(list(rows)) == 1 and rows.counts.rejected == {"D15": 1}


def test_many_problems_are_cut_and_counted(tmp_path: Path) -> None:
    path = file(tmp_path, *(f"0\tid{i}\tx\t9" for i in range(250)))
    with pytest.raises(UserError) as caught:
        list(SplitRows(path, "t", task(), "train"))
    assert caught.value.total == 250 and len(caught.value.problems) == 20
    assert caught.value.lines()[-1] == "250 problems in all; 20 shown."
    assert "250 problems in" in check_file(path, "t", task(), "train")[-1].what
    rows = SplitRows(path, "t", task(on_invalid_row="drop"), "train")
    with pytest.raises(UserError, match="D11"):
        list(rows)
    assert rows.counts.rejected == {"D16": 250} and len(rows.counts.listed) == 100


def test_after_the_first_problem_no_row_is_yielded(tmp_path: Path) -> None:
    rows = iter(SplitRows(file(tmp_path, "0\tx\ta\t1", "0\ty\tb\t9", "0\tz\tc\t1"), "t", task(), "train"))
    assert next(rows).id == "x"
    with pytest.raises(UserError):
        next(rows)


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_no_rows(tmp_path: Path, split: Split) -> None:
    (problem,) = check_file(file(tmp_path), "t", task(), split)
    assert problem.code == "D11" and "0 usable rows" in problem.what


def test_only_a_test_split_may_lack_labels(tmp_path: Path) -> None:
    path = file(tmp_path, "x\tfine", header="id\ttext\n")
    (row,) = SplitRows(path, "t", task(), "test")
    assert row.label is None
    for split in SPLITS[:2]:
        assert [p.code for p in check_file(path, "t", task(), split)] == ["D12"]
    (problem,) = check_file(file(tmp_path, "0\tx\tfine\t9"), "t", task(), "test")
    assert problem.code == "D16"


def test_constant_dev_labels(tmp_path: Path) -> None:
    path = file(tmp_path, "0\tx\ta\t1", "0\ty\tb\t1")
    assert not check_file(path, "t", task(), "train")
    (problem,) = check_file(path, "t", task(), "dev")
    assert problem.code == "D23" and "every dev label is 1" in problem.what
    path = file(tmp_path, "a\tb\t3.0", "c\td\t3", header="a\tb\tscore\n")
    assert "every dev label is 3" in check_file(path, "t", similarity(), "dev")[0].what


def test_hidden_characters_are_counted(tmp_path: Path) -> None:
    rows = SplitRows(file(tmp_path, "0\tx\ta\u200bb\u202e\x07\t1", "0\ty\tcaf\u00e9 \u4e2d\t1"), "t", task(), "train")
    assert len(list(rows)) == 2
    assert (rows.counts.hidden_characters, rows.counts.rows_with_hidden_characters) == (3, 1)


def test_a_stray_quote_is_detected_by_valid_labels_and_real_line_breaks_are_kept(tmp_path: Path) -> None:
    swallowing = file(tmp_path, '0\tx\t"oh\t1', "0\ty\tquiet\t0", '0\tz\thigh"\t1')
    (problem,) = check_file(swallowing, "t", task(), "train")
    assert problem.code == "D03" and problem.where.endswith(":2:5")
    pairs = TaskData(kind="classification", train="a", dev="b", text=["text"], label="label", labels=["0", "1"])
    true = file(tmp_path, '"Hello, dear', 'friend",1', header="text,label\n", name="train.csv")
    (row,) = SplitRows(true, "t", pairs, "train")
    assert row.texts == ["Hello, dear\nfriend"]


DEFECTS = {
    "D01": "{i}\tid{i}\tfine",
    "D03": '{i}\tid{i}\t"fine\t1',
    "D07": "{i}\tid{i}\tfi\0ne\t1",
    "D09": "{i}\tfirst\tfine\t1",
    "D14": "{i}\tid{i}\tfine\tno",
    "D15": "{i}\tid{i}\tfine\t",
    "D16": "{i}\tid{i}\tfine\t9",
    "D20": "{i}\tid{i}\t\t1",
}
GOOD = '{i}\tid{i}\t"so ""fine"""\t1.0'


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([*DEFECTS, "good", "good"]), max_size=40))
def test_exactly_the_injected_defects_are_reported(tmp_path: Path, kinds: list[str]) -> None:
    lines = [DEFECTS.get(kind, GOOD).format(i=i) for i, kind in enumerate(kinds)]
    path = file(tmp_path, "0\tfirst\tfine\t0", *lines)
    expected = [(line, kind) for line, kind in enumerate(kinds, start=3) if kind in DEFECTS]
    rows = SplitRows(path, "t", task(on_invalid_row="drop"), "train")
    used = list(rows)
    assert [entry[:2] for entry in rows.counts.listed] == expected
    assert rows.counts.rejected == Counter(kind for _, kind in expected)
    assert len(used) + len(expected) == rows.counts.rows_read == len(kinds) + 1
    found = check_file(path, "t", task(), "train")[:20]
    assert [(int(p.where.split(":")[1]), p.code) for p in found] == expected[:20]


@pytest.fixture
def real() -> Path:
    folder = os.environ.get("YOURBERT_REAL_DATA")
    if not folder:
        pytest.skip("YOURBERT_REAL_DATA does not name the folder of the real data")
    return Path(folder) / "cs224n"


def test_the_real_quora_rows_without_a_label(real: Path) -> None:
    data = read_params(ROOT / "params.yaml").tasks["quora"].data
    strict = data.model_copy(update={"on_invalid_row": "error"})
    found = check_file(real / "quora-dev.csv", "quora", strict, "dev")
    assert [(p.where.split(":")[1:], p.code) for p in found] == [
        (["2577", "5"], "D15"),
        (["14222", "5"], "D15"),
        (["14222", "4"], "D20"),
    ]
    rows = SplitRows(real / "quora-dev.csv", "quora", data.model_copy(update={"on_invalid_row": "drop"}), "dev")
    assert len(list(rows)) == 20212
    assert [entry[:2] for entry in rows.counts.listed] == [(2577, "D15"), (14222, "D15")]


def test_the_other_real_files_are_read_completely(real: Path) -> None:
    counts = {"sst": (8544, 1101, 2210), "cfimdb": (1707, 245, 488), "sts": (6040, 863, 1725)}
    for name, rows in counts.items():
        data = read_params(ROOT / "params.yaml").tasks[name].data
        files = (data.train, data.dev, str(data.test))
        for split, file_name, expected in zip(SPLITS, files, rows, strict=True):
            opened = SplitRows(real / file_name, name, data, split)
            assert len(list(opened)) == expected == opened.counts.rows_read


@pytest.mark.parametrize(("labels", "spelled", "index"), [
    (["0", "1"], "1.0", 1), (["0.0", "1.0"], "1", 1), (["0", "1"], "1e0", 1), (["-1", "1"], "+1.00", 1),
    (["true", "false"], "False", 1), (["True", "False"], "FALSE", 1), (["very good", "bad"], "very  good ", 0),
    (["caf\u00e9", "bar"], "cafe\u0301", 0), (["cafe\u0301", "bar"], "caf\u00e9", 0), (["007", "010"], "007", 0),
    (["nan", "no"], "nan", 0), (["none", "for"], "none", 0),
])  # fmt: skip
def test_a_label_in_another_spelling(tmp_path: Path, labels: list[str], spelled: str, index: int) -> None:
    rows = SplitRows(file(tmp_path, f"0\tx\tfilm\t{spelled}"), "t", task(labels=labels), "train")
    assert [row.label for row in rows] == [index]
    assert rows.counts.labels_respelled == int(spelled not in labels)


@pytest.mark.parametrize(("labels", "other"), [
    (["007", "010"], "7"), (["good", "bad"], "Good"), (["0", "1"], "1.5"), (["true", "false"], "1"),
])  # fmt: skip
def test_another_label_is_no_spelling(tmp_path: Path, labels: list[str], other: str) -> None:
    with pytest.raises(UserError, match=r"D1[4-7].*is not one of"):
        list(SplitRows(file(tmp_path, f"0\tx\tfilm\t{other}"), "t", task(labels=labels), "train"))


@pytest.mark.parametrize("missing", ["", " ", "nan", "NaN", "NA", "N/A", "#N/A", "<NA>", "NaT", "null", "NULL", "None"])
def test_a_missing_label_in_any_spelling(tmp_path: Path, missing: str) -> None:
    for data, row in ((task(), f"0\tx\tfilm\t{missing}"), (similarity(), f"film\tfilm\t{missing}")):
        path = file(tmp_path, row, header=HEADER if data.id else "a\tb\tscore\n")
        with pytest.raises(UserError, match=r"D15.*the label is missing"):
            list(SplitRows(path, "t", data, "train"))


def test_texts_to_look_at_are_noted(tmp_path: Path) -> None:
    texts = ['"two\nlines"', "nan", "None", "\\N", "fine", '"ends\n"']
    rows = SplitRows(file(tmp_path, *(f"{n}\tx{n}\t{text}\t1" for n, text in enumerate(texts))), "t", task(), "train")
    assert len(list(rows)) == 6
    assert (str(rows.counts.line_breaks), str(rows.counts.missing_texts)) == ("2", "4, 5")


def test_why_no_row_is_left_is_said(tmp_path: Path) -> None:
    data = task(on_invalid_row="drop")
    path = file(tmp_path, "0\tx\tfilm\tgood", "1\ty\t\t1", "2\tz\tfilm\tbad")
    with pytest.raises(UserError, match=r"D11.*all are rejected: 2 x D14, 1 x D20; line 2: D14 .*'good' is not one of"):
        list(SplitRows(path, "t", data, "train"))


def test_a_file_of_nothing_but_problems_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yourbert.corpus.rows.MAX_PROBLEMS", 30)
    problems = check_file(file(tmp_path, *(f"{n}\tx\t\tbad" for n in range(1000))), "t", task(), "train")
    assert len(problems) == 21 and problems[-1].what.startswith("at least 3")
