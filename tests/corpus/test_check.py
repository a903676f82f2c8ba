"""The check stage says what stands in place of a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.closure import ROOT
from yourbert.config.params import read_params
from yourbert.config.schema import Params
from yourbert.core.errors import UserError
from yourbert.corpus.check import check

ROWS = "id\ttext\tlabel\n1\ta\tgood\n2\tb\tbad\n"


def params(folder: Path) -> Params:
    shipped = read_params(ROOT / "params.yaml")
    block = {
        "kind": "classification", "train": "train.tsv", "dev": "dev.tsv", "text": ["text"], "label": "label",
        "labels": ["good", "bad"],
    }  # fmt: skip
    return shipped.model_copy(
        update={
            "corpus": str(folder), "mixtures": {}, "sequential": [],
            "tasks": {"mine": type(shipped.tasks["sst"]).model_validate({"data": block})},
        }
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("train.tsv", "dev.tsv"):
        (tmp_path / name).write_text(ROWS)
    return tmp_path


def test_good_files_are_in_the_plan(folder: Path) -> None:
    assert sorted(check(params(folder), folder)["sha256"]) == ["dev.tsv", "train.tsv"]


@pytest.mark.parametrize(
    ("replace", "says"),
    [
        (lambda path: path.mkdir(), "it is a folder, not a file"),
        (os.mkfifo, "it is a pipe, socket or device, not a file"),
        (lambda path: path.symlink_to("nowhere.tsv"), "it is a link to 'nowhere.tsv', which cannot be read"),
        (lambda path: path.symlink_to(path), "Too many levels|it is a link to"),
        (lambda path: path.with_name("dev1.tsv").write_text(ROWS), "no file 'dev.tsv' in .*did you mean 'dev1.tsv'"),
    ],
)
def test_what_is_in_place_of_a_file_is_said(folder: Path, replace: object, says: str) -> None:
    (folder / "dev.tsv").unlink()
    replace(folder / "dev.tsv")  # type: ignore[operator]
    with pytest.raises(UserError, match=f"D29.*({says})"):
        check(params(folder), folder)


def test_a_folder_that_cannot_be_read_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: object) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("yourbert.corpus.check.os.listdir", denied)
    with pytest.raises(UserError, match=r"D29.*the folder of the corpus cannot be read \(Permission denied\)"):
        check(params(folder), folder)
