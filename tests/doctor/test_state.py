"""DVC's own files, cut by a kill."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.doctor.conftest import LOCK, merged_lock
from yourbert.doctor.run import doctor

pytestmark = pytest.mark.integration


def test_a_broken_lock_is_kept_aside_and_the_committed_one_taken(root: Path) -> None:
    merged_lock(root)
    merged = (root / "dvc.lock").read_text()
    doctor(root, fix=True)
    assert (root / "dvc.lock").read_text() == LOCK
    assert (root / ".yourbert/doctor/dvc.lock.1").read_text() == merged
