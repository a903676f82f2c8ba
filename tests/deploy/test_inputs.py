"""Inputs are read unchanged, row by row; invalid rows are reported with line and field."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import tiny
from yourbert.core.errors import UserError
from yourbert.core.tasks import Task
from yourbert.deploy.inputs import InputRow, open_input

MOOD = tiny.task(columns=("sentence",), id_column="id")
SIM = tiny.task("sim", "similarity", columns=("first", "second"), id_column="id")
OLD = tiny.task()  # of a folder that does not record its columns


def asked(
    source: Path | str,
    task: Task = MOOD,
    columns: tuple[str, ...] = (),
    id_column: str | None = None,
    stdin: bytes = b"",
) -> list[InputRow]:
    return list(open_input(str(source), task, columns, id_column, io.BytesIO(stdin)))


def error_lines(source: Path | str, task: Task = MOOD, columns: tuple[str, ...] = (), **more: Any) -> list[str]:
    with pytest.raises(UserError) as caught:
        asked(source, task, columns, **more)
    assert caught.value.exit_code == 3
    return caught.value.lines()


def written(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


TABLES = {
    "t.csv": 'id,sentence,more\na,"good, very",1\nb,"two\nlines",2\n',
    "t.tsv": 'more\tsentence\tid\n1\tgood, very\ta\n2\t"two\nlines"\tb\n',
    "t.jsonl": '{"sentence": "good, very", "id": "a"}\n\n{"id": "b", "sentence": "two\\nlines"}\n',
    "t.csv.gz": 'id;sentence\na;good, very\nb;"two\nlines"\n',
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_in_any_form(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name, TABLES[name])
    assert [q[1:] for q in asked(path)] == [("a", ["good, very"]), ("b", ["two\nlines"])]
    assert [q[1:] for q in asked(path, OLD, ("sentence",))] == [("0", ["good, very"]), ("1", ["two\nlines"])]
    assert [q.id for q in asked(path, OLD, ("id",), "sentence")] == ["good, very", "two\nlines"]


def test_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"sentence": ["good", "bad"], "id": [7, 8]}), tmp_path / "t.parquet")
    assert asked(tmp_path / "t.parquet") == [InputRow(1, "7", ["good"]), InputRow(2, "8", ["bad"])]


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_lines_of_text(tmp_path: Path, end: str) -> None:
    text = "good film\r\ntab\there\n\u2028 odd \U0001f600" + end
    expected = [
        InputRow(1, "0", ["good film"]),
        InputRow(2, "1", ["tab\there"]),
        InputRow(3, "2", ["\u2028 odd \U0001f600"]),
    ]
    assert asked(written(tmp_path, "t.txt", text)) == asked(written(tmp_path, "t.txt.gz", text)) == expected
    assert asked("-", stdin=text.encode()) == expected


def test_lines_of_pairs() -> None:
    assert asked("-", SIM, stdin=b"a\tb c\nd\te\n") == [InputRow(1, "0", ["a", "b c"]), InputRow(2, "1", ["d", "e"])]


def test_an_empty_input_gives_no_rows(tmp_path: Path) -> None:
    assert (
        asked("-") == asked(written(tmp_path, "t.txt", "")) == asked(written(tmp_path, "t.csv", "id,sentence\n")) == []
    )


def test_bad_rows_are_named_all_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, "t.csv", "first,id,second\na,1,b\n,2,x\na,3\n \u200b,4, \nz,5,z\n")
    lines = error_lines(path, SIM)
    assert [line.split(": ")[0].split(":", 1)[0] + ":" + line.split(":", 1)[1].split(": ")[0] for line in lines] == [
        f"YB-I01 {path}:3:1", f"YB-I04 {path}:4", f"YB-I01 {path}:5:1", f"YB-I01 {path}:5:3",
    ]  # fmt: skip
    assert "2 fields, the header has 3" in lines[1] and "the text is empty" in lines[0]


def test_bad_lines_are_named_all_at_once() -> None:
    lines = error_lines("-", SIM, stdin=b"a\tb\none\na\tb\tc\n\tb\n\xff\ta\n")
    assert [line[:15] for line in lines] == [
        "YB-I04 stdin:2:", "YB-I04 stdin:3:", "YB-I01 stdin:4:", "YB-D08 stdin:5:",
    ]  # fmt: skip
    assert "1 field; this task reads two texts separated by a tab" in lines[0]
    assert "write the line as `first text<TAB>second text`" in lines[0]
    assert error_lines("-", stdin=b"a\n\nb\n") == [
        "YB-I01 stdin:2:1: the text is empty. Fix: add a text, or delete the row."
    ]


def test_of_many_bad_rows_some_are_shown_and_all_are_counted() -> None:
    lines = error_lines("-", stdin=b"\n" * 50)
    assert len(lines) == 21 and lines[-1] == "50 problems in all; 20 shown."


def test_after_a_bad_row_none_is_yielded() -> None:
    rows = iter(open_input("-", MOOD, (), None, io.BytesIO(b"a\n\nb\n")))
    assert next(rows).texts == ["a"]
    with pytest.raises(UserError):
        next(rows)


def test_unknown_columns_must_be_named(tmp_path: Path) -> None:
    path = written(tmp_path, "t.csv", "id,phrase\n1,good\n")
    (line,) = error_lines(path, OLD)
    assert "the model does not name its text columns (columns: 'id', 'phrase')" in line
    assert "name them with --columns (one text)" in line and "YB-I04" in line
    (line,) = error_lines(path, SIM, ("phrase",))
    assert "1 columns are named, but task 'sim' reads two texts" in line
    (line,) = error_lines(path, MOOD, ("phrasse",))
    assert "YB-D12" in line and "did you mean 'phrase'?" in line and "--columns" in line and "params.yaml" not in line
    (line,) = error_lines(path, MOOD, ("phrase",), id_column="number")
    assert "no column 'number'" in line
    (line,) = error_lines("-", MOOD, ("phrase",), stdin=b"a\n")
    assert "plain text has no columns" in line


def test_a_missing_file_and_one_of_no_known_kind(tmp_path: Path) -> None:
    assert "YB-D29" in error_lines(tmp_path / "no.csv")[0] and "YB-D29" in error_lines(tmp_path / "no.txt")[0]
    assert "YB-D30" in error_lines(written(tmp_path, "t.doc", "x"))[0]


def test_a_stray_quote_swallows_no_rows(tmp_path: Path) -> None:
    rows = ["1,good", '2,"bad', "3,so so", '4,well"', "5,fine"]
    lines = error_lines(written(tmp_path, "t.csv", "\n".join(["id,sentence", *rows]) + "\n"))
    assert len(lines) == 1 and "YB-D03" in lines[0] and ":3:3:" in lines[0]


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), min_size=1, max_size=20)


@settings(deadline=None)
@given(st.lists(texts.filter(lambda text: any(c.isalnum() for c in text)), max_size=8))
def test_any_text_comes_through_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, drawn: list[str]) -> None:
    assert [q.texts for q in asked("-", stdin="".join(f"{text}\n" for text in drawn).encode())] == [
        [text.removeprefix("\ufeff") if i == 0 else text] for i, text in enumerate(drawn)
    ]
    if drawn:
        path = tmp_path_factory.mktemp("t") / "t.jsonl"
        path.write_text("".join(json.dumps({"sentence": text}) + "\n" for text in drawn))
        assert [q.texts for q in asked(path)] == [[text] for text in drawn]


def test_swallowed_rows_are_an_error_with_and_without_ids(tmp_path: Path) -> None:
    path = written(tmp_path, "t.tsv", 'sentence\tid\na\t1\n"b\t2\nc\t3\nd"\t4\ne\t5\n')
    for task, columns in ((MOOD, ()), (OLD, ("sentence",))):
        (line,) = error_lines(path, task, columns)
        assert line.startswith("YB-D03") and ":3:1: a quote opens here" in line
        rows = open_input(str(path), task, columns, None, io.BytesIO(), "none")
        assert [row.texts for row in rows] == [["a"], ['"b'], ["c"], ['d"'], ["e"]]


def test_texts_with_line_breaks_are_noted(tmp_path: Path) -> None:
    rows = open_input(str(written(tmp_path, "t.csv", TABLES["t.csv"])), MOOD, (), None, io.BytesIO())
    assert len(list(rows)) == len(list(rows)) == 2
    assert (rows.line_breaks.count, str(rows.line_breaks)) == (1, "3")
