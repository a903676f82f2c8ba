"""Damaged objects of DVC's cache."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.doctor.conftest import cut_object, weights
from yourbert.doctor.objects import object_troubles

pytestmark = pytest.mark.integration


def test_an_object_goes_with_what_the_workspace_made_of_it_and_nothing_else_goes(root: Path) -> None:
    plain = root / "build/plain.bin"
    os.link(weights(root), plain)
    (root / "build/other.bin").write_bytes(weights(root).read_bytes())
    cut_object(root)
    (trouble,) = object_troubles(root)
    assert trouble.repair is not None
    trouble.repair()
    assert not plain.exists() and not weights(root).parent.exists() and not (root / trouble.where).exists()
    assert (root / "build/other.bin").exists()
    assert len(list((root / ".dvc/cache/files/md5").glob("??/*"))) == 2
