"""Where a project keeps what outlives its copies."""

from __future__ import annotations

from pathlib import Path

import pytest

from yourbert.core.errors import UserError
from yourbert.core.paths import located


def test_paths_start_at_the_project_in_an_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.setenv("DVC_ROOT", f"{tmp_path}/.dvc/tmp/exps/standalone/abc")
    assert located("mine") == tmp_path / "mine"
    with pytest.raises(UserError, match="P15"):
        located("missing")
