"""Other versions than those that are pinned."""

from __future__ import annotations

from pathlib import Path

import pytest

from yourbert.doctor.run import doctor

pytestmark = pytest.mark.integration


def test_other_versions_are_named_and_left_to_a_person(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "requirements.lock").write_text("numpy==0.1\nnot-there==1.0\n# a comment\n")
    assert doctor(root, fix=True) == 5
    out = capsys.readouterr().out
    assert "V12 requirements.lock" in out and "instead of 0.1" in out and "not-there missing" in out
