"""Delimited files: every fault is reported with code and line, and no row is merged, split or invented."""

from __future__ import annotations

import csv
import io
import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.tables import SAME_FOLDER, TEXT, bad, good, read, written
from yourbert.core.errors import Problem
from yourbert.corpus.formats import open_table
from yourbert.corpus.sources import FIELD_LIMIT


def test_rows_have_the_number_of_their_first_line(tmp_path: Path) -> None:
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
def test_an_invalid_row_is_reported_and_the_others_are_read(tmp_path: Path, code: str, row: str, says: str) -> None:
    found = read(written(tmp_path, f"id\ttext\n1\ta\n{row}\n3\tc\n"))
    assert good(found) == [["1", "a"], ["3", "c"]]
    assert bad(found) == [(3, code)]
    problem = found[1][1]
    assert isinstance(problem, Problem) and says in problem.what and "t.tsv:3" in problem.where


def test_a_stray_quote_is_reported_by_column_and_merges_no_rows(tmp_path: Path) -> None:
    """A later quote at the end of a field closes it: `csv.reader` alone would read one valid row of three lines."""
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


def test_blank_lines_are_counted(tmp_path: Path) -> None:
    table = open_table(written(tmp_path, "id\ttext\n\n1\ta\n\n"))
    assert [line for line, _ in table.rows(["id"])] == [3] and table.blank_lines == 2


@pytest.mark.parametrize(
    ("header", "delimiter"), [("a\tb,c", "\t"), ("a,b", ","), ("a;b;c,d", ";"), ('"a,x";b', ";"), ("a", ",")]
)
def test_the_header_tells_the_delimiter(tmp_path: Path, header: str, delimiter: str) -> None:
    columns = next(csv.reader([header], delimiter=delimiter))
    assert open_table(written(tmp_path, header + "\n", "t.csv")).columns == columns


@SAME_FOLDER
@given(st.lists(st.tuples(TEXT, TEXT, TEXT), max_size=8), st.sampled_from(["\t", ",", ";"]))
def test_any_text_comes_back_from_a_csv_file(tmp_path: Path, rows: list[tuple[str, str, str]], delimiter: str) -> None:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=delimiter).writerows([("one", "two", "three"), *rows])
    table = open_table(written(tmp_path, buffer.getvalue(), "t.csv"))
    assert [cells for _, cells in table.rows(["one", "two", "three"])] == [list(row) for row in rows]


SWALLOWED = {
    "by the tabs": ("t.tsv", 'text\tsource\na\tmail\n"b\tphone\nc\tmail\nd"\tphone\ne\tmail\n'),
    "of two lines": ("t.tsv", 'text\tsource\n"a\tmail\nb"\tphone\n'),
    "in the last column": ("t.tsv", 'source\ttext\nmail\ta\nphone\t"b\nmail\tc"\nmail\td\n'),
    "by known values": ("t.csv", 'text,source\na,mail\n"b,phone\nc,mail\n"d, he said",phone\ne,mail\n'),
    "with semicolons": ("t.csv", 'text;source\na;phone\n"b;phone\nc;phone\nd";mail\ne;mail\n'),
    "below sep=": ("t.csv", 'sep=|\ntext|source\na|mail\n"b|mail\nc"|mail\ne|mail\n'),
}


@pytest.mark.parametrize("kind", SWALLOWED)
def test_rows_swallowed_by_a_stray_quote_are_found_without_labels_or_ids(tmp_path: Path, kind: str) -> None:
    name, text = SWALLOWED[kind]
    found = list(open_table(written(tmp_path, text, name)).rows(["text"]))
    number = next(n for n, line in enumerate(text.splitlines(), start=1) if '"' in line)
    assert bad(found)[0] == (number, "D03"), found
    assert len(found) == len(text.splitlines()) - 1 - text.startswith("sep="), "no line is lost"


LETTERS = {
    "a letter": ("t.csv", 'text,label\n"Dear Sir, thanks\nfor all, and\nBest regards",good\nshort,bad\n'),
    "two letters": ("t.csv", 'a,b,label\n"one, two\nthree","four\nfive, six",1\nx,y,0\n'),
    "the last column": ("t.tsv", 'label\ttext\ngood\t"two\nlines"\nbad\tone\n'),
    "one column": ("t.csv", 'text\n"two\nlines"\none\n'),
}


@pytest.mark.parametrize("kind", LETTERS)
def test_texts_with_line_breaks_are_read(tmp_path: Path, kind: str) -> None:
    name, text = LETTERS[kind]
    path = written(tmp_path, text, name)
    with path.open(newline="") as file:
        header, *rows = csv.reader(file, delimiter="\t" if name.endswith(".tsv") else ",")
    assert good(list(open_table(path).rows(header))) == rows


CELL = st.text("ab \"'", min_size=1, max_size=6).filter(str.strip)


@SAME_FOLDER
@given(st.lists(st.tuples(CELL, st.sampled_from(["mail", "phone"])), min_size=1, max_size=12))
def test_of_rows_without_quoting_none_is_lost(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    """Every line is a row or the problem with one, wherever quotes stand."""
    text = "text\tsource\n" + "".join(f"{cell}\t{source}\n" for cell, source in rows)
    path = written(tmp_path, text)
    found = list(open_table(path).rows(["text"]))
    assert [line for line, _ in found] == list(range(2, len(rows) + 2))
    plain = list(open_table(path, quoting="none").rows(["text", "source"]))
    assert plain == [(line, list(row)) for line, row in enumerate(rows, start=2)]


@pytest.mark.parametrize(
    ("text", "name", "columns", "row"),
    [
        ("sep=;\r\na;b\r\n1,5;x\r\n", "t.csv", ["a", "b"], (3, ["1,5", "x"])),
        ("sep=\t\na\tb\n1\t2\n", "t.csv", ["a", "b"], (3, ["1", "2"])),
        ("a|b\n1|2\n", "t.csv", ["a", "b"], (2, ["1", "2"])),
        ("a,b\n1,2\n", "t.tsv", ["a", "b"], (2, ["1", "2"])),
        ('"a\nx;y","b"\n1,2\n', "t.csv", ["a\nx;y", "b"], (3, ["1", "2"])),
        ('"a, b";c\n1;2\n', "t.csv", ["a, b", "c"], (2, ["1", "2"])),
    ],
)
def test_the_first_record_decides_the_dialect(
    tmp_path: Path, text: str, name: str, columns: list[str], row: tuple[int, list[str]]
) -> None:
    table = open_table(written(tmp_path, text, name))
    assert table.columns == columns and list(table.rows(columns)) == [row]


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
    """Rows + defects = lines - 1, so no row is merged."""
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
    found = list(table.rows(names, looks_like_rows=lambda rows: True))
    assert found == [(line, [row[p] for p in places]) for line, row in enumerate(rows, start=2)]
