"""File formats: delimiters, headers, jsonl and parquet, and the error for a file that is not a table."""

from __future__ import annotations

import gzip
import json
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.tables import SAME_FOLDER, TEXT, bad, good, read, refused, written
from yourbert.core.errors import UserError
from yourbert.corpus import sources
from yourbert.corpus.formats import open_table


def test_tsv_is_tab_whatever_its_header_says(tmp_path: Path) -> None:
    assert open_table(written(tmp_path, "a,b,c\td\n")).columns == ["a,b,c", "d"]


def test_headers_of_the_course_are_read_by_name(tmp_path: Path) -> None:
    path = written(tmp_path, "0\t\tid\tsentence\n1\t0.0\tx1\tgood film\n", "test.csv")
    assert good(read(path, "sentence", "id")) == [["good film", "x1"]]


def test_unnamed_columns_may_repeat(tmp_path: Path) -> None:
    assert open_table(written(tmp_path, "\t\tid\n")).columns == ["", "", "id"]


@pytest.mark.parametrize(("code", "content", "name", "says"), [
    ("D10", b"", "t.csv", "no header"),
    ("D10", b"\n1\ta\n", "t.tsv", "first line is blank"),
    ("D10", b"", "t.jsonl", "empty"),
    ("D13", b"id\ttext\tid\n", "t.tsv", "duplicate column 'id' (positions 1, 3)"),
    ("D12", b"id\tsentnce\n", "t.tsv", "no column 'sentence'; did you mean 'sentnce'? (columns: 'id', 'sentnce')"),
    ("D12", b'{"id": 1}\n', "t.jsonl", "no column 'sentence'"),
    ("D08", "id\tsentence\n".encode("utf-16"), "t.tsv", "UTF-16"),
    ("D08", "id\tsentence\n".encode("utf-16-le"), "t.tsv", "UTF-16"),
    ("D08", b"id\tsent\xffence\n", "t.tsv", "in the header"),
    ("D30", gzip.compress(b"id\tsentence\n", mtime=0), "t.csv", "a gzip file"),
    ("D30", b"PK\x03\x04....", "t.csv", "zip"),
    ("D30", b"PK\x03\x04\x14\0\x06\0\x08\0\0\0!\0", "t.csv", "zip"),
    ("D30", b"\n <!DOCTYPE html><html>", "t.csv", "an HTML page"),
    ("D30", gzip.compress(b"<html>", mtime=0), "t.csv.gz", "an HTML page"),
    ("D30", b"id\tsentence\n", "t.csv.gz", "the name ends in .gz"),
    ("D30", gzip.compress(b"id\tsentence\n1\ta\n" * 99, mtime=0)[:-9], "t.csv.gz", "damaged"),
    ("D30", b"id\tsentence\n", "t.parquet", "not a readable parquet"),
    ("D30", b"id\tsentence\n", "t.docx", "none of .csv"),
])  # fmt: skip
def test_a_file_that_is_no_such_table_is_refused(
    tmp_path: Path, code: str, content: bytes, name: str, says: str
) -> None:
    problem = refused(written(tmp_path, content, name), "sentence")
    assert problem.code == code and says in problem.what and name in problem.where and problem.fix


def test_jsonl_keeps_the_spelling_of_numbers(tmp_path: Path) -> None:
    lines = ['{"id": 1, "text": "a", "label": 1.0}', "", '{"label": 1e2, "text": null, "id": true, "more": []}']
    assert read(written(tmp_path, "\n".join(lines), "t.jsonl"), "id", "text", "label") == [
        (1, ["1", "a", "1.0"]),
        (3, ["true", "", "1e2"]),
    ]


@pytest.mark.parametrize(("line", "code"), [
    ("{", "D01"), ("[1]", "D01"), ('{"id": 1}', "D01"), ('{"id": 1, "text": "\\ud800"}', "D08"), ("[" * 100_000, "D01"),
    ('{"id": 1, "text": "\xff"}', "D08"),
])  # fmt: skip
def test_a_bad_line_of_jsonl_is_named(tmp_path: Path, line: str, code: str) -> None:
    rows = '{"id": 0, "text": "a"}\n', line + "\n", '{"id": 2, "text": "b"}\n'
    found = read(written(tmp_path, "".join(rows).encode("latin-1"), "t.jsonl"), "id", "text")
    assert bad(found) == [(2, code)] and len(good(found)) == 2


def test_parquet_reads_as_text(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"text": ["a", None, "c\nd"], "label": [1.0, 0.0, float("nan")], "other": [1, 2, 3]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    found = read(tmp_path / "t.parquet", "label", "text")
    assert found == [(1, ["1.0", "a"]), (2, ["0.0", ""]), (3, ["", "c\nd"])]


@SAME_FOLDER
@given(st.lists(st.fixed_dictionaries({"a": TEXT, "b": TEXT}), min_size=1, max_size=8), st.booleans())
def test_any_text_comes_back_from_a_jsonl_file(tmp_path: Path, rows: list[dict[str, str]], escaped: bool) -> None:
    path = written(tmp_path, "".join(json.dumps(row, ensure_ascii=escaped) + "\n" for row in rows), "t.jsonl")
    assert good(read(path, "a", "b")) == [[row["a"], row["b"]] for row in rows]


@pytest.mark.parametrize(("value", "text"), [
    ('"a"', "a"), ("1", "1"), ("1.50", "1.50"), ("1e5", "1e5"), ("true", "true"), ("null", ""), ("NaN", ""),
    ('"NaN"', "NaN"), ("[1]", None), ("{}", None), ('{"a": 1}', None),
])  # fmt: skip
def test_a_cell_of_json_is_a_scalar(tmp_path: Path, value: str, text: str | None) -> None:
    found = read(written(tmp_path, f'{{"a": {value}, "b": "x"}}\n', "t.jsonl"), "a", "b")
    if text is None:
        assert bad(found) == [(1, "D35")] and "column 'a': a" in found[0][1].what  # type: ignore[union-attr]
    else:
        assert found == [(1, [text, "x"])]


def parquet(path: Path, values: list[Any], **of_type: Any) -> Path:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"a": pa.array(values, **of_type)}), path)
    return path


@pytest.mark.parametrize(("value", "text"), [
    ("a", "a"), (1, "1"), (1.0, "1.0"), (True, "true"), (None, ""), (float("nan"), ""), (b"gr\xc3\xbcn", "gr\u00fcn"),
    (Decimal("1.50"), "1.50"), (date(2026, 12, 1), "2026-12-01"), (datetime(2026, 12, 1, 9, 5), "2026-12-01T09:05:00"),
    (b"\xff", "D08"), ([1], "D35"), ({"b": 1}, "D35"), (timedelta(1), "D35"),
])  # fmt: skip
def test_a_cell_of_parquet_is_a_scalar(tmp_path: Path, value: Any, text: str) -> None:
    found = read(parquet(tmp_path / "t.parquet", [value]), "a")
    assert found == [(1, [text])] or bad(found) == [(1, text)]


def test_a_date_beyond_the_calendar_is_refused_by_line(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"a": pa.array([0, -719163], pa.date32())}), tmp_path / "t.parquet")
    found = read(tmp_path / "t.parquet", "a")
    assert found[0] == (1, ["1970-01-01"]) and bad(found) == [(2, "D35")]


def test_a_damaged_parquet_file_is_one_line(tmp_path: Path) -> None:
    path = parquet(tmp_path / "t.parquet", [f"text {n}" for n in range(5000)])
    data = path.read_bytes()
    zeros, not_text = data[:300] + bytes(2000) + data[2300:], data.replace(b"text 4", b"text \xff")
    for damaged in (data[:-20], data[:200], zeros, not_text):
        path.write_bytes(damaged)
        try:
            found = read(path, "a")
            assert {code for _, code in bad(found)} <= {"D08"} and len(found) == 5000
        except UserError as error:
            assert [problem.code for problem in error.problems] == ["D30"]


@pytest.mark.parametrize(
    "content", [b"a" * 200_000, b"a\tb\n" * 50_000, b"\n" * 200_000], ids=["one line", "rows", "blank lines"]
)
def test_a_file_that_unpacks_to_far_more_than_its_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(sources, "UNPACKED_LIMIT", 100_000)
    problem = refused(written(tmp_path, gzip.compress(b"a\tb\n" + content), "t.tsv.gz"), "a")
    assert problem.code == "D30" and "unpacks to more than 50 times its size" in problem.what


def test_a_missing_column_among_many_is_a_short_message(tmp_path: Path) -> None:
    path = written(tmp_path, "\t".join(f"column{n}" for n in range(100_000)) + "\n", "t.tsv")
    problem = refused(path, "column99999x")
    assert "did you mean 'column9999" in problem.what and "and 99980 more" in problem.what and len(problem.what) < 500
