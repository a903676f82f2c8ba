"""Faults of data files: the stage `check` names each, and nothing that took time is touched.

Each case carries its number in the catalogue of docs/reliability.md.
"""

from __future__ import annotations

import gzip
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.faults.project import ROWS, Change, Fault, Project, assert_refused
from yourbert.corpus import sources
from yourbert.corpus.sources import FIELD_LIMIT

pytestmark = pytest.mark.integration

SST, QUORA, STS = "ids-sst-train.csv", "quora-train.csv", "sts-train.csv"


def row(name: str, line: int, text: str) -> Change:
    """Puts another line in the place of one, counted from 1."""

    def change(project: Project) -> None:
        path = project.corpus / name
        lines = path.read_text().split("\n")
        lines[line - 1] = text
        path.write_text("\n".join(lines), newline="")

    return change


def content(name: str, data: bytes | None) -> Change:
    """Puts other bytes in the place of a file, or takes it away."""

    def change(project: Project) -> None:
        path = project.corpus / name
        path.unlink()
        if data is not None:
            path.write_bytes(data)

    return change


def swapped(name: str, old: str, new: str, count: int = -1) -> Change:
    def change(project: Project) -> None:
        path = project.corpus / name
        data = path.read_bytes()
        assert old.encode() in data
        path.write_bytes(data.replace(old.encode(), new.encode(), count))

    return change


def constant() -> bytes:
    lines = ["\tid\tsentence1\tsentence2\tsimilarity", *(f"{n}\td{n}\tone {n}\ttwo {n}\t3.0" for n in range(ROWS))]
    return "\n".join([*lines, ""]).encode()


def folder_instead(project: Project) -> None:
    (project.corpus / SST).unlink()
    (project.corpus / SST).mkdir()


def fifo_instead(project: Project) -> None:
    (project.corpus / SST).unlink()
    os.mkfifo(project.corpus / SST)


def labelled_test_file(project: Project) -> None:
    (project.corpus / "ids-sst-test-student.csv").write_text("\tid\tsentence\tsentiment\n0\tt0\tfine\t9\n")


REFUSED = (
    Fault(
        "D01", row(SST, 4, "2\ttrain2"), "D01", "2 fields, the header has 4; the row starts '2", r"ids-sst-train.csv:4:"
    ),
    Fault("D02", row(SST, 4, "2\tx\tfine\t1\tmore"), "D01", "5 fields, .*first extra one is 'more'", ":4:"),
    Fault("D03", row(SST, 4, '2\tx\t"fine\t1'), "D03", "a quote opens here and is not closed", ":4:5:"),
    Fault("D06", row(SST, 4, "2\tx\tfi\rne\t1"), "D06", "carriage return", ":4:"),
    Fault("D07", row(SST, 4, "2\tx\tfi\0ne\t1"), "D07", "NUL byte", ":4:7:"),
    Fault(
        "D08",
        content(SST, b"\tid\tsentence\tsentiment\n0\ta\tcaf\xe9\t1\n1\tb\tok\t2\n"),
        "D08",
        "0xe9 at byte offset 30",
        ":2:8:",
    ),
    Fault(
        "D08",
        content(SST, "\tid\tsentence\tsentiment\n".encode("utf-16")),
        "D08",
        "UTF-16, not UTF-8.*0xff 0xfe",
        ":1:",
    ),
    Fault("D09", row(SST, 4, "2\ttrain0\tfine\t1"), "D09", "duplicate id 'train0', first used on line 2", ":4:2:"),
    Fault("D10", content(SST, b""), "D10", "no header", ":1:"),
    Fault("D11", content(SST, b"\tid\tsentence\tsentiment\n"), "D11", "0 usable rows"),
    Fault(
        "D12", swapped(SST, "sentence", "sentense", 1), "D12", "no column 'sentence'.*did you mean 'sentense'", ":1:"
    ),
    Fault(
        "D13",
        swapped(SST, "\tid\t", "\tsentence\t", 1),
        "D13",
        r"duplicate column 'sentence' \(positions 2, 3\)",
        ":1:",
    ),
    Fault("D14", row(SST, 4, "2\tx\tfine\tgood"), "D14", "'good' is not one of 0, 1, 2, 3, 4", ":4:4:"),
    Fault("D15", row(SST, 4, "2\tx\tfine\tNaN"), "D15", "the label is missing", ":4:4:"),
    Fault("D16", row(SST, 4, "2\tx\tfine\t7"), "D16", "'7' is not one of", ":4:4:"),
    Fault("D16", row(SST, 4, "2\tx\tfine\t-100"), "D16", "'-100' is not one of", ":4:4:"),
    Fault("D17", row(SST, 4, "2\tx\tfine\t1.5"), "D17", "'1.5' is not one of", ":4:4:"),
    *(
        Fault("D18", row(STS, 4, f"2\tx\tone\ttwo\t{label}"), "D18", "not a decimal number from 0 to 5", ":4:5:")
        for label in ("5.2", "-0.1", "inf", "1_0", "\u0663")
    ),
    Fault("D19", row(SST, 4, f"2\tx\t{'long ' * (FIELD_LIMIT // 5 + 1)}\t1"), "D19", f"more than {FIELD_LIMIT}", ":4:"),
    Fault("D20", row(SST, 4, "2\tx\t \u3000\t1"), "D20", "the text is empty", ":4:3:"),
    Fault("D23", content("sts-dev.csv", constant()), "D23", "every dev label is 3"),
    Fault("D26", labelled_test_file, "D16", "'9' is not one of", "test-student.csv:2:4:"),
    Fault("D26", swapped("ids-sst-dev.csv", "sentiment", "feeling", 1), "D12", "no column 'sentiment'", ":1:"),
    Fault("D29", content(SST, None), "D29", "no file 'ids-sst-train.csv'", r"params.yaml: tasks.sst.data.train:"),
    Fault("D29", folder_instead, "D29", "no file|a folder"),
    Fault("D29", fifo_instead, "D29", "no file|a pipe"),
    Fault("D30", content(SST, gzip.compress(b"\tid\tsentence\tsentiment\n")), "D30", "looks like a gzip file"),
    Fault("D30", content(SST, b"<!DOCTYPE html><title>Sign in</title>"), "D30", "looks like an HTML page"),
)


@pytest.mark.parametrize("fault", REFUSED, ids=lambda fault: fault.case)
def test_check_names_it_and_touches_nothing(project: Project, fault: Fault) -> None:
    fault.change(project)
    assert_refused(project, project.attempt("check"), fault)


def test_check_names_the_faults_of_all_files_at_once(project: Project) -> None:
    """Up to twenty of a file, then how many there are."""
    rows = "".join(f"{n}\tid{n}\tfine\t7\n" for n in range(100))
    (project.corpus / SST).write_text("\tid\tsentence\tsentiment\n" + rows)
    row(QUORA, 3, "1\tx\t\ttwo\t1.0")(project)
    row(STS, 3, "1\tx\tone\ttwo\t9")(project)
    outcome = project.attempt("check")
    assert outcome.code == 3 and outcome.said.count("YB-D16") == 21 and "100 problems in" in outcome.said
    assert "YB-D18" in outcome.said and "quora" not in outcome.said, "the release's quora rows are dropped, not refused"


def tokens_of(project: Project, task: str = "sst") -> dict[str, bytes]:
    outcome = project.attempt("tokenize", task)
    assert outcome.code == 0, outcome.said
    folder = project.folder / "build" / "tokens" / task
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*.npy"))}


@pytest.fixture
def ready(project: Project) -> Project:
    project.download()
    return project


def reordered(project: Project) -> None:
    path = project.corpus / "ids-sst-dev.csv"
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    path.write_text("".join("\t".join([label, text, row_id]) + "\n" for _, row_id, text, label in rows))


@pytest.mark.parametrize(
    ("case", "change", "notice"),
    [
        (
            "D05",
            lambda p: (p.corpus / SST).write_bytes(b"\xef\xbb\xbf" + (p.corpus / SST).read_bytes()),
            "byte order mark",
        ),
        ("D06", lambda p: (p.corpus / SST).write_bytes((p.corpus / SST).read_bytes().replace(b"\n", b"\r\n")), ""),
        ("D17", swapped("quora-train.csv", "\t1.0\n", "\t1\n"), ""),
        ("D25", reordered, "D25 .*read by name"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("D") else "",
)
def test_another_spelling_gives_the_same_tokens(ready: Project, case: str, change: Change, notice: str) -> None:
    task = "quora" if case == "D17" else "sst"
    plain = tokens_of(ready, task)
    change(ready)
    assert ready.attempt("check").code == 0
    outcome = ready.attempt("tokenize", task)
    folder = ready.folder / "build" / "tokens" / task
    assert {name: (folder / name).read_bytes() for name in plain} == plain
    assert re.search(notice, outcome.log)


def account(project: Project, task: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project.folder / "metrics" / "data" / f"{task}.json").read_text())
    return found


@pytest.mark.parametrize(
    ("case", "task", "change", "says"),
    [
        ("D04", "sst", row(SST, 4, '2\tx\tthe "best" film\t1'), ""),
        ("D06", "sst", row(SST, 4, "2\tx\tone\u2028line\t1"), "D27 ids-sst-train.csv: 1 control"),
        (
            "D21",
            "sts",
            row("sts-dev.csv", 4, "2\tx\tTRAIN sts text 3 1\ttrain sts  text 3 0\t1"),
            r"D21 sts-dev.csv: 1 rows .*\(lines 4=5\)",
        ),
        (
            "D22",
            "sts",
            row(STS, 4, "2\tx\ttrain sts text 0 0\ttrain sts text 0 1\t5"),
            r"D22 sts-train.csv: 1 texts have two labels \(lines 2\)",
        ),
        (
            "D24",
            "sst",
            lambda p: (p.corpus / SST).write_text((p.corpus / SST).read_text().replace("\t4\n", "\t3\n")),
            "D24 .* no row with label 4",
        ),
        ("D27", "sst", row(SST, 4, "2\tx\tfi\u200bne \u202efilm\t1"), "D27 ids-sst-train.csv: 2 control"),
    ],
)
def test_what_can_be_used_is_used_and_said(ready: Project, case: str, task: str, change: Change, says: str) -> None:
    change(ready)
    assert ready.attempt("check").code == 0
    outcome = ready.attempt("tokenize", task)
    found = account(ready, task)
    assert outcome.code == 0 and found["splits"]["train"]["rows_used"] == found["splits"]["train"]["rows_read"] == ROWS
    assert re.search(says, "\n".join(found["warnings"])) and re.search(says, outcome.log)


def test_d15_dropped_rows_are_counted_and_listed(ready: Project) -> None:
    row(QUORA, 4, "2\tx\tone\t\t1.0")(ready)
    row(QUORA, 6, "4\ty\tone\ttwo\t")(ready)
    assert ready.attempt("check").code == 0 and ready.attempt("tokenize", "quora").code == 0
    train = account(ready, "quora")["splits"]["train"]
    assert train["rows_read"] == ROWS and train["rows_used"] == ROWS - 2 and train["rejected"] == {"D20": 1, "D15": 1}
    assert [entry[:2] for entry in train["rejected_lines"]] == [[4, "D20"], [6, "D15"]]


def test_d21_can_be_an_error(ready: Project) -> None:
    ready.edit("id: id", "id: id\n      on_leakage: error")
    row("ids-sst-dev.csv", 4, "2\tx\ttrain ids-sst text 3 0\t1")(ready)
    outcome = ready.attempt("tokenize", "sst")
    fault = Fault("D21", lambda p: None, "D21", r"task 'sst': ids-sst-dev.csv: 1 rows also occur in .* \(lines 4=5\)")
    assert_refused(ready, outcome, fault)


def test_d28_a_file_that_changes_while_it_is_read(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    real = sources.check_unchanged

    def changed_first(path: Path, before: os.stat_result) -> None:
        with path.open("a") as file:
            file.write("10\tlate\tfine\t1\n")
        real(path, before)

    monkeypatch.setattr(sources, "check_unchanged", changed_first)
    outcome = project.attempt("check")
    assert outcome.code == 3 and "YB-D28" in outcome.said


def test_d29_a_file_that_nobody_may_read(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """`os.access` says so by itself unless the tests run as root."""
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != SST and real(path, mode))
    outcome = project.attempt("check")
    assert outcome.code == 3 and "no permission to read it" in outcome.said
