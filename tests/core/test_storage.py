"""Files are placed whole: flushed before they get their name, and their folder after; what kills leave is known."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.closure import ROOT
from yourbert.core.errors import UserError
from yourbert.core.storage import (
    UNFINISHED,
    folder_hash,
    read_json,
    replacing,
    scratch,
    write_array,
    write_csv,
    write_json,
    write_manifest,
    write_tensors,
    write_text,
)

NOBODY = 2**22 + 1  # more than any process of Linux


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is flushed and renamed, in order. A kill cannot test this: the disk still gets what nobody flushed."""
    noted: list[str] = []
    fsync, replace = os.fsync, os.replace

    def flushed(number: int) -> None:
        noted.append(f"flush {Path(os.readlink(f'/proc/self/fd/{number}')).name}")
        fsync(number)

    def renamed(source: Any, target: Any) -> None:
        noted.append(f"rename {Path(source).name} {Path(target).name}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    return noted


def test_flushed_renamed_and_the_folder_flushed(tmp_path: Path, calls: list[str]) -> None:
    write_json(tmp_path / "facts.json", {"a": 1})
    part = f".facts.json.{os.getpid()}.part"
    assert calls == [f"flush {part}", f"rename {part} facts.json", f"flush {tmp_path.name}"]
    assert UNFINISHED.fullmatch(part)


def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / "facts.json", {"a": 1})

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"R07 .*facts.json: cannot write: No space left on device"):
        write_json(tmp_path / "facts.json", {"a": 2})
    assert read_json(tmp_path / "facts.json") == {"a": 1} and len(list(tmp_path.iterdir())) == 1


LARGE: dict[str, Callable[[Path], None]] = {
    "text": lambda path: write_text(path, "x" * 100_000),
    "table": lambda path: write_csv(path, ["x"], [["x" * 100_000]]),
    "array": lambda path: write_array(path, np.ones(100_000)),
    "tensors": lambda path: write_tensors(path, {"x": torch.ones(100_000)}),
}


@pytest.mark.parametrize("name", LARGE)
def test_every_writer_says_in_one_line_that_the_disk_is_full(tmp_path: Path, name: str) -> None:
    """The writer of safetensors raises an exception of its own. A limit of the process stands in for the disk."""
    resource = pytest.importorskip("resource")
    limit, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, most))
    try:
        with pytest.raises(UserError) as caught:
            LARGE[name](tmp_path / "new" / "file")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    (problem,) = caught.value.problems
    assert problem.code == "R07" and "cannot write" in problem.what and str(tmp_path) in problem.where
    assert not any((tmp_path / "new").iterdir())


def test_two_writers_do_not_share_a_file(tmp_path: Path) -> None:
    with replacing(tmp_path / "x") as part:
        assert str(os.getpid()) in part.name
        part.write_text("whole")
    assert (tmp_path / "x").read_text() == "whole"


def test_a_scratch_folder_goes_and_takes_those_of_the_dead_along(tmp_path: Path) -> None:
    for process in (NOBODY, os.getppid()):
        (tmp_path / f".scratch-abc.{process}.part" / "deep").mkdir(parents=True)
    with scratch(tmp_path) as place:
        (place / "big.npy").write_text("x")
        assert UNFINISHED.fullmatch(place.name)
        assert not (tmp_path / f".scratch-abc.{NOBODY}.part").exists()
    assert [path.name for path in tmp_path.iterdir()] == [f".scratch-abc.{os.getppid()}.part"], "its owner lives"


def test_what_is_unfinished_is_no_part_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    before = folder_hash(tmp_path)
    for name in (".a.123.part", ".model.safetensors.4.part"):
        (tmp_path / name).write_text("half")
    assert folder_hash(tmp_path) == before
    write_manifest(tmp_path)
    assert read_json(tmp_path / "manifest.json").keys() == {"a"}


def test_a_hash_leaves_out_what_dvc_leaves_out(tmp_path: Path) -> None:
    """Every name that .dvcignore hides; DVC itself says which files it sees."""
    from dvc.repo import Repo

    Repo.init(str(tmp_path), no_scm=True)
    (tmp_path / ".dvcignore").write_text((ROOT / ".dvcignore").read_text())
    repo = Repo(str(tmp_path))
    code = tmp_path / "code"
    (code / "inside").mkdir(parents=True)
    (code / "a.py").write_text("a")
    (code / "inside" / "b.c").write_text("b")
    before = folder_hash(code)
    hidden = [
        ".a.py.swp",
        "a.py~",
        ".#a.py",
        ".DS_Store",
        "a.py.orig",
        "a.py.rej",
        "a.pyc",
        "__pycache__/a.cpython-311.pyc",
    ]
    for name in [*hidden, ".ipynb_checkpoints/a.py", "inside/.b.c.swo"]:
        (code / name).parent.mkdir(exist_ok=True)
        (code / name).write_text("left by an editor")
    seen = [Path(root) / name for root, _, names in repo.dvcignore.walk(repo.fs, str(code)) for name in names]
    assert sorted(p.relative_to(code).as_posix() for p in seen) == ["a.py", "inside/b.c"]
    assert folder_hash(code) == before
    (code / "inside" / "b.c").write_text("c")
    assert folder_hash(code) != before
    assert folder_hash(code / "a.py") == hashlib.sha256(b"a").hexdigest()


@pytest.mark.parametrize("text", ["", "[1]", "3", '{"a": ', "\udcff", "[" * 100_000, "nul"])
def test_what_is_no_json_object(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=r"C01 .*x.json"):
        read_json(tmp_path / "x.json")
