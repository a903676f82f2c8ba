"""What the dead left over, and not what the living use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.doctor.conftest import said
from yourbert.doctor.run import troubles

pytestmark = pytest.mark.integration


def test_files_of_a_process_that_lives_are_not_left_over(root: Path) -> None:
    (root / f"build/.model.json.{os.getpid()}.part").write_text("half")
    assert said(root) == []


def test_a_pipe_among_the_data_is_found_and_removed(root: Path) -> None:
    (root / "data").mkdir()
    (root / "data/texts.csv").write_text("a\n")
    os.mkfifo(root / "data/train.csv")
    (line,) = said(root)
    assert "V14" in line and "data/train.csv" in line and "DVC would wait" in line
    for trouble in troubles(root):
        assert trouble.repair is not None
        trouble.repair()
    assert said(root) == [] and (root / "data/texts.csv").exists()
