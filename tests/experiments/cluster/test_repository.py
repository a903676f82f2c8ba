"""A sweep starts from a clean commit, and pushes models to a remote that other machines can reach."""

from __future__ import annotations

from pathlib import Path

import pytest

from yourbert.core.errors import UserError
from yourbert.experiments.cluster.repository import check_remote, starting_commit
from yourbert.experiments.git import git

pytestmark = pytest.mark.integration


def test_a_sweep_starts_from_what_is_committed(project: Path, tmp_path: Path) -> None:
    (project / "params.yaml").write_text("")
    with pytest.raises(UserError, match="YB-X21"):
        starting_commit()
    git("commit", "--quiet", "--all", "--message", "more")
    assert len(starting_commit()) == 40
    git("clone", "--quiet", "--depth", "1", f"file://{project}", str(tmp_path / "shallow"))
    with pytest.raises(UserError, match="--unshallow"), pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path / "shallow")
        starting_commit()


def test_no_repository_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(UserError, match=r"YB-X20 .*not a git repository"):
        starting_commit()


@pytest.mark.parametrize(
    ("name", "message"),
    [("folder", ""), ("s3", ""), ("folds", "did you mean 'folder'"), ("inside", "repository itself")],
)
def test_models_go_where_other_machines_reach(project: Path, tmp_path: Path, name: str, message: str) -> None:
    urls = {"folder": tmp_path / "models", "s3": "s3://bucket/models", "inside": "../models"}
    (project / ".dvc/config").write_text("".join(f"['remote \"{n}\"']\n    url = {url}\n" for n, url in urls.items()))
    if not message:
        check_remote(name)
    else:
        with pytest.raises(UserError, match=message):
            check_remote(name)
