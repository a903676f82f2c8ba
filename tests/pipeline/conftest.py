"""A small copy of the project, reproduced once for all tests of this folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.closure import ROOT
from yourbert.corpus.bundled.generate import write

PARTS = (
    "stages",
    "yourbert",
    "params.yaml",
    "dvc.yaml",
    "pyproject.toml",
    ".gitignore",
    ".gitattributes",
    ".dvcignore",
)
ROWS = 60


@dataclass(frozen=True)
class Project:
    """A project folder and the commands that people type in it."""

    root: Path

    def __call__(self, *words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Runs a command with this Python's programs first on the path, as in an activated environment."""
        full = self.env() | (env or {})
        return subprocess.run(words, cwd=self.root, env=full, capture_output=True, text=True, check=False)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Starts a command as a terminal would, in a group of its own, and does not wait for it."""
        return subprocess.Popen(
            words, cwd=self.root, env=self.env(), stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def env(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}

    def dvc(self, *words: str, env: dict[str, str] | None = None) -> str:
        """What a DVC command that must succeed prints."""
        done = self(sys.executable, "-m", "dvc", *words, env=env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def git(self, *words: str) -> str:
        done = self("git", "-c", "user.name=t", "-c", "user.email=t@example.org", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def params(self) -> dict[str, Any]:
        loaded: dict[str, Any] = yaml.safe_load((self.root / "params.yaml").read_text())
        return loaded

    def set_params(self, **changes: Any) -> None:
        text = yaml.safe_dump({**self.params(), **changes}, sort_keys=False)
        (self.root / "params.yaml").write_text(text)


def small_params(tasks: Sequence[str] = ("sst", "sts")) -> dict[str, Any]:
    """The shipped parameters for some tasks and one mixture, with a model that trains in a second."""
    params: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["tasks"] = {name: {**params["tasks"][name], "lr": None, "epochs": None, "min_steps": None} for name in tasks}
    shared = [name for name in params["sequential"][-1]["tasks"] if name in tasks]
    params |= {"mixtures": {"shared": {"tasks": shared, "sampling": "joint"}}, "sequential": []}
    params |= {"model": "random:1x32", "epochs": 1, "lr": 0.001, "num_threads": 1}
    params["evaluate"] |= {
        "bootstrap_samples": 100,
        "num_explanations": 1,
        "submission": {"sst": "Predicted_Sentiment"},
    }
    params["report"] |= {"permutations": 100}
    return params


def make_project(root: Path, tasks: Sequence[str] = ("sst", "sts")) -> Project:
    root.mkdir(parents=True)
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, root / part)
    project = Project(root)
    project.git("init", "--quiet")
    project.dvc("init", "--quiet")
    shutil.copy(ROOT / ".dvc" / "config", root / ".dvc" / "config")
    (root / "params.yaml").write_text(yaml.safe_dump(small_params(tasks), sort_keys=False))
    write(root / "data")
    files = tuple("ids-" * (task in ("sst", "cfimdb")) + f"{task}-" for task in tasks)
    for path in (root / "data").iterdir():
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(lines[: 1 + ROWS])) if path.name.startswith(files) else path.unlink()
    project.dvc("add", "--quiet", "data")
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message", "start")
    return project


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A small project after its first `dvc repro`, committed. Tests leave it as they found it, or copy it."""
    project = make_project(tmp_path_factory.mktemp("small") / "project")
    project.dvc("repro")
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message", "reproduced")
    return project


@pytest.fixture
def project(reproduced: Project, tmp_path: Path) -> Project:
    """A copy of the reproduced project, to be changed."""
    shutil.copytree(reproduced.root, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")
