"""What the dead left over, and not what the living use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.doctor.conftest import said

pytestmark = pytest.mark.integration


def test_files_of_a_process_that_lives_are_not_left_over(root: Path) -> None:
    (root / f"build/.model.json.{os.getpid()}.part").write_text("half")
    assert said(root) == []
