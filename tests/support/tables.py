"""Tables of rows and problems, as they are read from files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from yourbert.core.errors import Problem, UserError
from yourbert.corpus.formats import open_table

Read = list[tuple[int, list[str] | Problem]]
TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20)
SAME_FOLDER = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(path: Path, *names: str) -> Read:
    table = open_table(path)
    return list(table.rows(names or table.columns, looks_like_rows=lambda rows: True))


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
