"""The model card of an exported model."""

from __future__ import annotations

from pathlib import Path

import pytest

from yourbert.core.storage import write_json
from yourbert.deploy.export.export import export
from yourbert.runtime.machine import Machine

pytestmark = pytest.mark.integration


def test_its_card(mean: Path, machine: Machine, tmp_path: Path) -> None:
    scores = {"sim": {"dev": {"pearson": 0.5, "pearson_low": 0.4, "pearson_high": 0.6}}}
    write_json(tmp_path / "runs" / "all" / "3.json", scores)
    export(mean, tmp_path / "out", "sentence-transformers", "sim", False, machine, tmp_path, tmp_path)
    card = (tmp_path / "out" / "README.md").read_text()
    for line in ("0 + 5 * (1 * cosine + 0)", "sim, dev: pearson 0.500 (0.400 to 0.600)", "a similarity from 0 to 5"):
        assert line in card, line
    assert "1,000 steps over 20,000 tokens; the weights of epoch 2" in card and "lr 0.001" in card
