"""Files as they come: every fault has its code and its line, and no row is swallowed, split or invented."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from yourbert.core.errors import Problem, UserError
from yourbert.corpus.formats import open_table
from yourbert.corpus.sources import FIELD_LIMIT, opened

Read = list[tuple[int, list[str] | Problem]]
TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20)
SAME_FOLDER = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(path: Path, *names: str) -> Read:
    table = open_table(path)
    return list(table.rows(names or table.columns, like_rows=lambda rows: True))


def good(found: Read) -> list[list[str]]:
    return [cells for _, cells in found if not isinstance(cells, Problem)]


def bad(found: Read) -> list[tuple[int, str]]:
    return [(line, cells.code) for line, cells in found if isinstance(cells, Problem)]


def written(folder: Path, text: str | bytes, name: str = "t.tsv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(path: Path, *names: str) -> Problem:
    with pytest.raises(UserError) as caught:
        read(path, *names)
    return caught.value.problems[0]


def test_rows_carry_the_line_they_start_on(tmp_path: Path) -> None:
    found = read(written(tmp_path, 'id\ttext\n1\t"two\nlines"\n2\tone\n'))
    assert found == [(2, ["1", "two\nlines"]), (4, ["2", "one"])]


@pytest.mark.parametrize(("code", "row", "says"), [
    ("D01", "2", "1 field, the header has 2; the row starts '2'"),
    ("D01", "2\tb\textra\tmore", "4 fields, the header has 2; the first extra one is 'extra'"),
    ("D03", '2\t"open', "a quote opens here"),
    ("D03", '2\t"closed" then more', "a quote opens here"),
    ("D06", "2\tb\rb", "carriage return"),
    ("D07", "2\tb\0b", "NUL"),
    ("D19", "2\t" + "x" * (FIELD_LIMIT + 1), "more than 1000000 characters"),
])  # fmt: skip
def test_a_bad_row_is_named_and_its_neighbours_are_read(tmp_path: Path, code: str, row: str, says: str) -> None:
    found = read(written(tmp_path, f"id\ttext\n1\ta\n{row}\n3\tc\n"))
    assert good(found) == [["1", "a"], ["3", "c"]]
    assert bad(found) == [(3, code)]
    problem = found[1][1]
    assert isinstance(problem, Problem) and says in problem.what and "t.tsv:3" in problem.where


def test_a_stray_quote_is_named_by_column_and_swallows_nothing(tmp_path: Path) -> None:
    """Closed by a later quote at a field's end: `csv.reader` alone would see one valid row of three lines."""
    path = written(tmp_path, 'id\ttext\tlabel\n1\tfine\t0\n2\t"oh\t1\n3\tquiet\t0\n4\thigh"\t1\n5\tend\t0\n')
    with path.open(newline="") as file:
        assert len(list(csv.reader(file, delimiter="\t"))) == 4
    found = read(path)
    assert bad(found) == [(3, "D03")] and len(good(found)) == 4
    assert isinstance(found[1][1], Problem) and found[1][1].where.endswith(":3:3")


def test_a_stray_quote_after_a_good_multiline_field_is_found_where_it_opens(tmp_path: Path) -> None:
    found = read(written(tmp_path, 'a\tb\n"x\ny"\t"open\n1\t2\n'))
    assert isinstance(found[0][1], Problem) and found[0][1].where.endswith(":3:4") and found[1:] == [(4, ["1", "2"])]


def test_many_stray_quotes_cost_neither_rows_nor_stack(tmp_path: Path) -> None:
    rows = [f'{i}\t"x' if i % 2 else f"{i}\tx" for i in range(5000)]
    found = read(written(tmp_path, "id\ttext\n" + "\n".join(rows) + "\n"))
    assert len(good(found)) == len(bad(found)) == 2500


def test_a_quote_inside_an_unquoted_field_is_text(tmp_path: Path) -> None:
    assert good(read(written(tmp_path, 'id\ttext\n1\the said "no"\n'))) == [["1", 'he said "no"']]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_line_ends_and_byte_order_mark_change_nothing(tmp_path: Path, end: str, mark: bytes) -> None:
    text = end.join(["id\ttext", "1\ta\u2028b", "2\tc\x0b\x0c\x85d", ""])
    assert good(read(written(tmp_path, mark + text.encode()), "id", "text")) == [
        ["1", "a\u2028b"],
        ["2", "c\x0b\x0c\x85d"],
    ]


def test_invalid_utf8_names_line_and_byte(tmp_path: Path) -> None:
    found = read(written(tmp_path, b"id\ttext\n1\t\xc3\xa9\n2\tcaf\xe9\n3\tc\n"))
    assert bad(found) == [(3, "D08")] and len(good(found)) == 2
    assert "0xe9 at byte offset 18" in str(found[1][1]) and "t.tsv:3:6" in str(found[1][1])


def test_blank_lines_are_counted(tmp_path: Path) -> None:
    table = open_table(written(tmp_path, "id\ttext\n\n1\ta\n\n"))
    assert [line for line, _ in table.rows(["id"])] == [3] and table.blank_lines == 2


@pytest.mark.parametrize(
    ("header", "delimiter"), [("a\tb,c", "\t"), ("a,b", ","), ("a;b;c,d", ";"), ('"a,x";b', ";"), ("a", ",")]
)
def test_the_header_tells_the_delimiter(tmp_path: Path, header: str, delimiter: str) -> None:
    columns = next(csv.reader([header], delimiter=delimiter))
    assert open_table(written(tmp_path, header + "\n", "t.csv")).columns == columns


def test_tsv_is_tab_whatever_its_header_says(tmp_path: Path) -> None:
    assert open_table(written(tmp_path, "a,b,c\td\n")).columns == ["a,b,c", "d"]


def test_headers_of_the_course_are_read_by_name(tmp_path: Path) -> None:
    path = written(tmp_path, "0\t\tid\tsentence\n1\t0.0\tx1\tgood film\n", "test.csv")
    assert good(read(path, "sentence", "id")) == [["good film", "x1"]]


def test_unnamed_columns_may_repeat(tmp_path: Path) -> None:
    assert open_table(written(tmp_path, "\t\tid\n")).columns == ["", "", "id"]


@pytest.mark.parametrize(("code", "content", "name", "says"), [
    ("D10", b"", "t.csv", "no header"),
    ("D10", b"\n1\ta\n", "t.tsv", "first line blank"),
    ("D10", b"", "t.jsonl", "empty"),
    ("D13", b"id\ttext\tid\n", "t.tsv", "'id' stands there twice (positions 1, 3)"),
    ("D12", b"id\tsentnce\n", "t.tsv", "no column 'sentence' (columns: 'id', 'sentnce'); did you mean 'sentnce'?"),
    ("D12", b'{"id": 1}\n', "t.jsonl", "no column 'sentence'"),
    ("D08", "id\tsentence\n".encode("utf-16"), "t.tsv", "UTF-16"),
    ("D08", "id\tsentence\n".encode("utf-16-le"), "t.tsv", "UTF-16"),
    ("D08", b"id\tsent\xffence\n", "t.tsv", "in the header"),
    ("D30", gzip.compress(b"id\tsentence\n", mtime=0), "t.csv", "a gzip file"),
    ("D30", b"PK\x03\x04....", "t.csv", "zip"),
    ("D30", b"PK\x03\x04\x14\0\x06\0\x08\0\0\0!\0", "t.csv", "zip"),
    ("D30", b"\n <!DOCTYPE html><html>", "t.csv", "an HTML page"),
    ("D30", gzip.compress(b"<html>", mtime=0), "t.csv.gz", "an HTML page"),
    ("D30", b"id\tsentence\n", "t.csv.gz", "the name says gzip"),
    ("D30", gzip.compress(b"id\tsentence\n1\ta\n" * 99, mtime=0)[:-9], "t.csv.gz", "damaged"),
    ("D30", b"id\tsentence\n", "t.parquet", "not a readable parquet"),
    ("D30", b"id\tsentence\n", "t.docx", "none of .csv"),
])  # fmt: skip
def test_a_file_that_is_no_such_table_is_refused(
    tmp_path: Path, code: str, content: bytes, name: str, says: str
) -> None:
    problem = refused(written(tmp_path, content, name), "sentence")
    assert problem.code == code and says in problem.what and name in problem.where and problem.fix


def test_a_small_file_that_was_packed_without_its_time_is_read(tmp_path: Path) -> None:
    """A third of its bytes are zeros, as in UTF-16."""
    path = written(tmp_path, gzip.compress(b"a\n", mtime=0), "t.csv.gz")
    with opened(path) as file:
        assert file.read() == b"a\n"


def test_what_is_not_a_plain_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "folder.csv").mkdir()
    written(tmp_path, "x", "near.csv")
    for name, says in [("pipe.csv", "pipe"), ("folder.csv", "a folder"), ("nera.csv", "No such file")]:
        problem = refused(tmp_path / name)
        assert problem.code == "D29" and says in problem.what
    assert "near.csv" in problem.fix


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "id\n1\n")
    with pytest.raises(UserError, match="D28"), opened(path) as file:
        file.read()
        path.write_text("id\n1\n2\n")


def test_gzip_is_read_like_the_plain_file(tmp_path: Path) -> None:
    text = b"id\ttext\n1\ta\n2\t\xff\n"
    plain, packed = written(tmp_path, text), written(tmp_path, gzip.compress(text, mtime=0), "t.tsv.gz")
    assert good(read(plain)) == good(read(packed)) and bad(read(plain)) == bad(read(packed)) == [(3, "D08")]


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
@given(st.lists(st.tuples(TEXT, TEXT, TEXT), max_size=8), st.sampled_from(["\t", ",", ";"]))
def test_any_text_comes_back_from_a_csv_file(tmp_path: Path, rows: list[tuple[str, str, str]], delimiter: str) -> None:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=delimiter).writerows([("one", "two", "three"), *rows])
    table = open_table(written(tmp_path, buffer.getvalue(), "t.csv"))
    assert [cells for _, cells in table.rows(["one", "two", "three"])] == [list(row) for row in rows]


@SAME_FOLDER
@given(st.lists(st.fixed_dictionaries({"a": TEXT, "b": TEXT}), min_size=1, max_size=8), st.booleans())
def test_any_text_comes_back_from_a_jsonl_file(tmp_path: Path, rows: list[dict[str, str]], escaped: bool) -> None:
    path = written(tmp_path, "".join(json.dumps(row, ensure_ascii=escaped) + "\n" for row in rows), "t.jsonl")
    assert good(read(path, "a", "b")) == [[row["a"], row["b"]] for row in rows]


DEFECTS = {
    "D01": lambda i: f"{i}\tshort",
    "D03": lambda i: f'{i}\t"open\t0',
    "D06": lambda i: f"{i}\ta\rb\t0",
    "D07": lambda i: f"{i}\ta\0b\t0",
    "D08": lambda i: f"{i}\ta\udcffb\t0",
}


@SAME_FOLDER
@given(st.lists(st.sampled_from([*DEFECTS, None, None, '"quoted ""text"""']), max_size=30), st.integers(0, 99))
def test_exactly_the_injected_defects_are_found(tmp_path: Path, kinds: list[str | None], seed: int) -> None:
    """And rows + defects = lines - 1: nothing is swallowed."""
    words = random.Random(seed)
    lines = ["id\ttext\tlabel"]
    for i, kind in enumerate(kinds):
        text = kind if kind and kind.startswith('"') else words.choice(["plain", 'with "inner" quotes', 'ends so"'])
        lines.append(DEFECTS[kind](i) if kind in DEFECTS else f"{i}\t{text}\t1")
    path = written(tmp_path, "\n".join(lines).encode(errors="surrogateescape"))
    found = read(path)
    assert bad(found) == [(i, kind) for i, kind in enumerate(kinds, start=2) if kind in DEFECTS]
    assert len(found) == len(lines) - 1


@pytest.mark.parametrize("name", [
    "ids-sst-train", "ids-sst-dev", "ids-sst-test-student", "ids-cfimdb-train", "ids-cfimdb-dev",
    "ids-cfimdb-test-student", "quora-train", "quora-dev", "sts-train", "sts-dev", "sts-test-student",
])  # fmt: skip
def test_real_files_read_as_csv_reader_reads_them(name: str) -> None:
    folder = os.environ.get("YOURBERT_REAL_DATA")
    if not folder:
        pytest.skip("YOURBERT_REAL_DATA does not name the folder of the real data")
    path = Path(folder) / "cs224n" / f"{name}.csv"
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file, delimiter="\t")
    table = open_table(path)
    assert table.columns == header
    names = [column for column in header if column]
    places = [header.index(column) for column in names]
    found = list(table.rows(names, like_rows=lambda rows: True))
    assert found == [(line, [row[p] for p in places]) for line, row in enumerate(rows, start=2)]
