"""Rows, lengths, labels and overlaps of the data."""

from __future__ import annotations

from tests.report.conftest import THREE, Tree, cells, lines, section


def test_rows_costs_and_overlaps_are_told(full: Tree) -> None:
    text = full.report(overlaps={"sts/dev": {"quora/train": 31}})[0]
    data = section(text, "Data")
    assert cells(data, "sst")[3:] == ["8,544", "8,541", "3", "12", "-"]
    told = {task: lines(data, task)[-1][2] for task in THREE}
    assert told["sst"] == "a\\*b: 33.3%, c: 66.7%" and told["sts"] == "mean 2.542, sd 1.481"
    assert told["quora"] == "9, from 0: 10.7% to 8: 11.5%", "too many to name them all"
    assert lines(data, "sts")[-1][3:] == ["21", "37", "1,066"]
    assert "16 rows stand in &lt;b&gt;train&lt;/b&gt; too" in data
    assert cells(data, "quora/train") == ["quora/train", "sts/dev", "31"]
    cost = section(text, "Training statistics")
    assert cells(cost, "shared") == ["shared", "sst, quora, sts", "1,001.5", "1,234,567", "2", "22,713,600"]
    assert "500 swaps" in text and "200 samples of the rows" in text
    assert "Holm's correction over all 4 comparisons of the table" in text
