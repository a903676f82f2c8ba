"""Opening files: those that are not regular, not UTF-8, or change while they are read."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from tests.support.tables import bad, good, read, refused, written
from yourbert.core.errors import UserError
from yourbert.corpus.sources import open_data_file


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


def test_a_small_gzip_file_without_a_timestamp_is_read(tmp_path: Path) -> None:
    """A third of its bytes are zeros, as in UTF-16."""
    path = written(tmp_path, gzip.compress(b"a\n", mtime=0), "t.csv.gz")
    with open_data_file(path) as file:
        assert file.read() == b"a\n"


def test_a_file_that_is_not_regular_is_refused_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "folder.csv").mkdir()
    written(tmp_path, "x", "near.csv")
    for name, says in [("pipe.csv", "pipe"), ("folder.csv", "a folder"), ("nera.csv", "No such file")]:
        problem = refused(tmp_path / name)
        assert problem.code == "D29" and says in problem.what
    assert "near.csv" in problem.fix


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "id\n1\n")
    with pytest.raises(UserError, match="D28"), open_data_file(path) as file:
        file.read()
        path.write_text("id\n1\n2\n")


def test_gzip_is_read_like_the_plain_file(tmp_path: Path) -> None:
    text = b"id\ttext\n1\ta\n2\t\xff\n"
    plain, packed = written(tmp_path, text), written(tmp_path, gzip.compress(text, mtime=0), "t.tsv.gz")
    assert good(read(plain)) == good(read(packed)) and bad(read(plain)) == bad(read(packed)) == [(3, "D08")]
