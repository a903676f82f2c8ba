"""Files are read whole, of one run each: what is missing, mixed or long gone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.report.conftest import QUALITY, Tree, params
from yourbert.core.errors import UserError
from yourbert.core.storage import write_json


def test_files_of_runs_long_gone_are_ignored(full: Tree) -> None:
    before = full.report()
    write_json(full.metrics("old", 1), {"sst": {"dev": {"accuracy": 1.0}}})
    write_json(full.metrics("sst", 99), {"broken": True})
    assert full.report() == before


def test_every_missing_file_is_named_with_the_fix(tmp_path: Path) -> None:
    tree = Tree(tmp_path, params(["sst", "sts"], {}), QUALITY)
    tree.metrics("sst", 1).unlink()
    (tmp_path / "predictions" / "sts" / "2" / "sts-dev.csv").unlink()
    with pytest.raises(UserError) as caught:
        tree.report()
    assert caught.value.exit_code == 5 and len(caught.value.problems) == 2
    assert "sst/1.json" in str(caught.value) and "sts-dev.csv" in str(caught.value)
    assert all("dvc repro" in str(problem) for problem in caught.value.problems)


def test_predictions_of_another_model_are_refused(tmp_path: Path) -> None:
    tree = Tree(tmp_path, params(["sst"], {}), QUALITY)
    found = json.loads(tree.metrics("sst", 1).read_text())
    found["sst"]["dev"]["accuracy"] += 0.01
    write_json(tree.metrics("sst", 1), found)
    with pytest.raises(UserError, match=r"C01.*sst-dev.csv: its accuracy is 0\.\d+, but .*1.json says"):
        tree.report()


def test_runs_scored_on_different_rows_are_refused(tmp_path: Path) -> None:
    tree = Tree(tmp_path, params(["sst"], {"shared": ["sst"]}), QUALITY)
    for seed in (1, 2):
        path = tmp_path / "predictions" / "shared" / str(seed) / "sst-dev.csv"
        path.write_text(path.read_text().replace("r7,", "other,"))
    with pytest.raises(UserError, match="'sst' and 'shared' were scored on different rows"):
        tree.report()
