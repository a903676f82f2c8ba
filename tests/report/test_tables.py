"""Cells of the report: text stays text, wherever it is shown."""

from __future__ import annotations

import pytest

from yourbert.report.tables import inert, number


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"), ("@SUM(A1)", "'@SUM(A1)"), ("-1+1", "'-1+1"), ("+1", "'+1"),
        ("\t=1", "'\t=1"), ("\r=1", "'\r=1"), ("a=1", "a=1"), ("", ""), ("0.5", "0.5"),
    ],
)  # fmt: skip
def test_a_spreadsheet_computes_nothing(text: str, shown: str) -> None:
    assert inert(text) == shown


@pytest.mark.parametrize(
    ("value", "score", "difference"),
    [
        (0.8304, "0.830", "+0.830"), (0.0004, "0.000", "+0.0004"), (-0.0006, "-0.001", "-0.001"),
        (0.0, "0.000", "+0.000"), (None, "-", "-"),
    ],
)  # fmt: skip
def test_a_difference_that_three_digits_do_not_show_has_four(value: float | None, score: str, difference: str) -> None:
    assert number(value) == score and number(value, sign=True) == difference
