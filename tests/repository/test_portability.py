"""The library outside Linux: every module imports and a small training runs without what only Linux or Unix has."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.faults.project import Project
from tests.support.closure import ROOT
from yourbert.core import locks


@pytest.mark.integration
def test_a_training_runs_where_unix_functions_are_missing(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    project.download()
    encoder = project.folder / "build" / "encoder"
    encoder.symlink_to(project.folder / "build" / "base", target_is_directory=True)
    command = [sys.executable, str(ROOT / "tests" / "support" / "bare_system.py"), str(project.folder)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) > 100
    assert "no locks on this file system (this system has no file locks)" in done.stderr
    assert (project.folder / "metrics" / "runs" / "sst" / "11711.json").is_file()


def test_a_lock_excludes_by_the_function_that_windows_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for `msvcrt.locking` that excludes as flock does."""
    fcntl = pytest.importorskip("fcntl")

    def locking(descriptor: int, mode: int, count: int) -> None:
        assert (mode, count, os.lseek(descriptor, 0, os.SEEK_CUR)) == (2, 1, locks.LOCKED_BYTE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermissionError(13, "locked by another process") from None

    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setattr(locks, "msvcrt", SimpleNamespace(LK_NBLCK=2, locking=locking))
    path = tmp_path / "a.lock"
    for _ in range(2):
        lock = locks.acquire(path)
        assert lock is not None and locks.owner(path) == f"process {os.getpid()}"
        assert locks.acquire(path) is None
        lock.release()
        assert not path.exists()


def test_no_file_name_has_a_character_that_windows_refuses() -> None:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert [name for name in done.stdout.splitlines() if re.search(r'[<>:"|?*\\]', name)] == []


def test_text_files_are_opened_with_an_encoding() -> None:
    """Without one, Windows reads and writes in the code page of its country."""
    found = []
    for path in [*(ROOT / "yourbert").rglob("*.py"), *(ROOT / "stages").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _reads_text(node) and "encoding" not in {k.arg for k in node.keywords}:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found == []


def _reads_text(call: ast.Call) -> bool:
    """Whether it is `open`, `x.open`, `x.read_text` or `x.write_text` in text mode."""
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    of = call.func.value.id if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name) else ""
    if name in ("read_text", "write_text"):
        return isinstance(call.func, ast.Attribute)
    words = [str(argument.value) for argument in call.args if isinstance(argument, ast.Constant)]
    return name == "open" and of not in ("os", "gzip", "archive") and not any("b" in word for word in words)
