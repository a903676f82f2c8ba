"""A project to search in: the shipped parameters and the metrics of two runs, committed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.closure import ROOT
from yourbert.experiments.git import git

SCORE = '{"overall": {"dev": 0.5}}'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a repository of the shipped parameters and one run's metrics."""
    folder = tmp_path / "project"
    (folder / "metrics/runs/sst").mkdir(parents=True)
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config").write_text("")
    shutil.copy(ROOT / "params.yaml", folder)
    (folder / "metrics/runs/sst/1.json").write_text(SCORE)
    (folder / "metrics/runs/sts.json").write_text(SCORE)
    (folder / ".gitignore").write_text(".yourbert/\n")
    monkeypatch.chdir(folder)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "t")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "t@example.org")
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "start")
    return folder
