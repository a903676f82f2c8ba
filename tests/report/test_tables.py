"""Cells of the report: text stays text, wherever it is shown."""

from __future__ import annotations

import pytest

from yourbert.report.tables import inert


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"), ("@SUM(A1)", "'@SUM(A1)"), ("-1+1", "'-1+1"), ("+1", "'+1"),
        ("\t=1", "'\t=1"), ("\r=1", "'\r=1"), ("a=1", "a=1"), ("", ""), ("0.5", "0.5"),
    ],
)  # fmt: skip
def test_a_spreadsheet_computes_nothing(text: str, shown: str) -> None:
    assert inert(text) == shown
