"""Cells of the report: text stays text, wherever it is shown."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from tests.report.conftest import QUALITY, THREE, Tree, cells, lines, params, section
from yourbert.report.results import Cell
from yourbert.report.tables import inert, number, plain, score, table


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


def test_the_table_has_tasks_by_tailorings(full: Tree) -> None:
    dev = section(full.report()[0], "Dev scores")
    assert cells(dev, "task") == ["task", "score", "model", "dev", "vs. single-task", "verdict"]
    for task, verdict in zip(
        THREE, ("significantly worse, p", "significantly better, p", "undecided, p = "), strict=True
    ):
        own, shared = lines(dev, task)
        assert (own[2], own[4:], shared[2]) == ("single-task", ["-", "-"], "shared") and shared[5].startswith(verdict)
        assert all(" ± " in line[3] and " to " in line[3] for line in (own, shared))
    assert [line[2] for line in lines(dev, "cfimdb")] == ["single-task"]
    assert [line[:3] for line in lines(dev, "overall: sst, quora, sts")] == [
        ["overall: sst, quora, sts", "mean of 0..1", run] for run in ("single-task", "shared")
    ]


def test_the_study_stands_beside_ours_with_a_warning_for_synthetic_data(full: Tree) -> None:
    study = section(full.report()[0], "Comparison with the paper")
    assert cells(study, "sst (accuracy)")[1:4:2] == ["0.511", "0.306"]
    assert cells(study, "overall")[1] == "0.727" and cells(study, "cfimdb (accuracy)")[1] == "0.967"
    assert "synthetic" in study and "Not comparable" in study


def test_on_another_corpus_the_study_can_be_compared(tmp_path: Path) -> None:
    tree = Tree(tmp_path, params(["sst"], {}, corpus="../x|y/cs224n"), QUALITY)
    study = section(tree.report()[0], "Comparison with the paper")
    assert "synthetic" not in study and "corpus ../x\\|y/cs224n" in study


def test_tasks_that_the_study_does_not_have_leave_it_out(tmp_path: Path) -> None:
    assert "Comparison with the paper" not in Tree(tmp_path, params(["a_b"], {}), QUALITY).report()[0]


def test_the_model_that_knows_quora_is_named(full: Tree, tmp_path: Path) -> None:
    assert "was pretrained on Quora question pairs" in full.report()[0]
    other = Tree(tmp_path, params(["quora"], {}, model="google-bert/bert-base-uncased"), QUALITY)
    assert "saw Quora" not in other.report()[0]


def test_tables_line_up(full: Tree) -> None:
    for above, below in pairwise(line for line in full.report()[0].splitlines() if line.startswith("|")):
        assert len(above) == len(below) or below.startswith(("| task", "| model", "| trained"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", r"a\|b"),
        ("<script>&", "&lt;script&gt;&amp;"),
        ("[x](javascript:1)", r"\[x\](javascript:1)"),
        ("a_b *c* `d`", r"a_b \*c\* \`d\`"),
        ("_a_", r"\_a\_"),
        ("two\nlines\u202e", r"two\\nlines\\u202e"),
    ],
)
def test_names_cannot_become_markup(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_a_pipe_in_a_name_does_not_add_a_column() -> None:
    assert table(["task", "n"], [[plain("a|b"), "1"]]).splitlines()[-1] == r"| a\|b   |   1 |"


def test_a_score_of_one_seed_has_no_spread() -> None:
    assert score(Cell(seeds=(0.5,), low=0.4, high=0.6)) == "0.500 (0.400 to 0.600)"
    assert score(None) == "undefined"
