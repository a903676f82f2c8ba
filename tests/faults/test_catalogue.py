"""docs/reliability.md names every case of the catalogue, and each test it names is there."""

from __future__ import annotations

import re

import pytest

from tests.support.closure import ROOT

CASES = {"D": 39, "P": 20, "W": 16, "C": 12, "T": 15, "X": 6, "H": 5, "I": 8, "S": 10, "V": 9}
PAGE = (ROOT / "docs" / "reliability.md").read_text()
ROW = re.compile(r"^\| ([A-Z])(\d\d)(?: - \1(\d\d))? \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


def test_all_are_there_once_and_in_order() -> None:
    found = [
        f"{letter}{number:02}"
        for letter, first, last, *_ in ROW.findall(PAGE)
        for number in range(int(first), int(last or first) + 1)
    ]
    assert found == [f"{letter}{number:02}" for letter, count in CASES.items() for number in range(1, count + 1)]


@pytest.mark.parametrize("row", ROW.findall(PAGE), ids=lambda row: row[0] + row[1])
def test_what_is_named_is_there(row: tuple[str, ...]) -> None:
    where = row[-1]
    if where.startswith("not: "):
        return
    file, _, name = where.partition("::")
    text = (ROOT / "tests" / file).read_text()
    assert f"def {name}(" in text if name else (row[0] + row[1]).lower() in text.lower()
