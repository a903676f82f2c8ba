"""The page shows what the result files hold: the same bytes each time, and nothing else on the page is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.pages import BEGIN, END
from benchmarks.render import NOTHING, render
from tests.benchmarks import made
from tests.support.closure import ROOT
from yourbert.core.errors import UserError
from yourbert.core.storage import write_json

PROSE = "# Speed\n\nBefore.\n\n{}\n\nold table\n\n{}\n\nAfter.\n"


@pytest.fixture
def page(tmp_path: Path) -> Path:
    place = tmp_path / "speed.md"
    place.write_text(PROSE.format(BEGIN, END))
    return place


def results(tmp_path: Path) -> Path:
    write_json(tmp_path / "results" / "cpu.json", made.facts())
    return tmp_path / "results"


def drawn(tmp_path: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}


def test_the_same_bytes_each_time(tmp_path: Path, page: Path) -> None:
    render(results(tmp_path), page)
    first = drawn(tmp_path)
    assert {p for p in first if p.endswith(".svg")} == {"speed-cpu-throughput.svg", "speed-cpu-scaling.svg"}
    for name in first:
        if name.endswith(".svg"):
            assert name in page.read_text()
            (tmp_path / name).unlink()
    render(tmp_path / "results", page)
    assert drawn(tmp_path) == first


def test_figures_and_prose(tmp_path: Path, page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.render._plots", lambda *_: [])
    render(results(tmp_path), page)
    text = page.read_text()
    assert text.startswith("# Speed\n\nBefore.\n") and text.endswith("\nAfter.\n") and "old table" not in text
    assert "| train minilm sst 16 | hf-default " in text and "| 6.00x" in text
    assert "110.0 (105.0 to 255.0)" in text, "median and quartiles of the rounds"
    assert "not installed: datasets" in text and "not measured" in text and "**short**" in text
    assert "accelerate" not in text.partition(BEGIN)[2].partition("### Goals")[0], "a package that is not there"


def test_a_suite_without_goals_and_files_of_other_commands(tmp_path: Path, page: Path) -> None:
    write_json(tmp_path / "results" / "ladder.json", made.facts() | {"suite": "ladder", "left_out": []})
    write_json(tmp_path / "results" / "scale.json", {"figures": []})
    render(tmp_path / "results", page)
    text = page.read_text()
    assert "## ladder" in text and "### Steps" in text and "### Runs from texts" in text
    assert "Goals" not in text and ".svg" not in text and "scale" not in text and "Left out" not in text


def test_no_results(tmp_path: Path, page: Path) -> None:
    render(tmp_path / "none", page)
    assert NOTHING in page.read_text() and "old table" not in page.read_text()


def test_a_page_without_marks(tmp_path: Path, page: Path) -> None:
    page.write_text(f"# Speed\n{BEGIN}\n")
    with pytest.raises(UserError, match="lacks the marks"):
        render(tmp_path / "none", page)
    assert page.read_text() == f"# Speed\n{BEGIN}\n"


def test_the_page_of_the_project_has_the_marks() -> None:
    text = (ROOT / "docs" / "performance.md").read_text()
    assert text.count(BEGIN) == text.count(END) == 1 and text.index(BEGIN) < text.index(END)
