"""`yourbert init` adds the block that a person would write, explains its guesses, and changes nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.closure import ROOT
from yourbert.config.params import read_params
from yourbert.core.errors import UserError
from yourbert.core.tasks import Split
from yourbert.corpus.propose_task import propose_task

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "it", "rains"]


def sentence(number: int) -> str:
    return " ".join(WORDS[(number * 7 + at) % len(WORDS)] for at in range(6)) + f" number {number}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    copy = tmp_path / "params.yaml"
    copy.write_bytes((ROOT / "params.yaml").read_bytes())
    return copy


def tables(folder: Path, header: str, row: Any, rows: int = 40) -> dict[Split, Path]:
    found: dict[Split, Path] = {}
    for split, start in (("train", 0), ("dev", 1000)):
        path = folder / f"mine-{split}.csv"
        path.write_text("\n".join([header, *(row(start + number) for number in range(rows))]) + "\n")
        found[split] = path  # type: ignore[index]
    return found


def test_a_classification_of_texts(tmp_path: Path, path: Path) -> None:
    names = ("no", "yes", "perhaps")
    files = tables(tmp_path, "key,comment,verdict", lambda n: f"k{n},{sentence(n)},{names[n % 3]}")
    before = path.read_text()
    block, reasons = propose_task("mine", files, [], None, None, path)
    assert block == {
        "kind": "classification", "train": "mine-train.csv", "dev": "mine-dev.csv", "text": ["comment"],
        "label": "verdict", "id": "key", "labels": ["no", "perhaps", "yes"], "max_length": 64,
    }  # fmt: skip
    assert read_params(path).tasks["mine"].data.labels == ["no", "perhaps", "yes"]
    assert "3 values, so a classification" in reasons[1]
    start, end = re.split(r"\n#[^\n]*(?=\nmixtures:)", before)  # the comment of the block after the tasks
    assert path.read_text().startswith(start) and path.read_text().endswith(end), "the rest stays, comments too"


def test_a_similarity_of_pairs(tmp_path: Path, path: Path) -> None:
    files = tables(tmp_path, "first\tsecond\tscore", lambda n: f"{sentence(n)}\t{sentence(n + 1)}\t{n % 41 / 8}")
    block, _ = propose_task("alike", files, [], None, None, path)
    assert (block["kind"], block["text"], block["label"]) == ("similarity", ["first", "second"], "score")
    assert block["range"] == [0, 5] and block["encoding"] == "bi" and "id" not in block


def test_numbers_that_are_classes(tmp_path: Path, path: Path) -> None:
    files = tables(tmp_path, "n,a,b,same", lambda n: f"{n},{sentence(n)},{sentence(n + 3)},{n % 2}")
    block, _ = propose_task("same", files, [], None, None, path)
    assert block["labels"] == [0, 1] and block["text"] == ["a", "b"] and block["id"] == "n"


def test_named_columns_replace_the_guess(tmp_path: Path, path: Path) -> None:
    files = tables(tmp_path, "a,b,c,label", lambda n: f"{sentence(n)},{sentence(n + 1)},{n % 4},{n % 2}")
    block, _ = propose_task("mine", files, ["b"], "c", None, path)
    assert block["text"] == ["b"] and block["label"] == "c" and block["labels"] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("header", "row", "given", "says"),
    [
        ("a,label", lambda n: f"{sentence(n)},{n % 3 or ''}", {}, "D15.*the label is missing"),
        ("a,label", lambda n: f"{sentence(n)},x{n}", {}, "P05.*80 values, too many for classes"),
        ("a,b", lambda n: f"{sentence(n)},{sentence(n + 1)}", {}, "D12.*no column looks like a label"),
        ("a,label", lambda n: f"{n},{n % 2}", {}, "D12.*no column looks like a text"),
        ("a,label", lambda n: f"{sentence(n)},{n % 2}", {"label": "lable"}, "D12.*did you mean 'label'"),
    ],
)
def test_what_cannot_be_a_task_changes_nothing(
    tmp_path: Path, path: Path, header: str, row: Any, given: dict[str, str], says: str
) -> None:
    before = path.read_bytes()
    with pytest.raises(UserError, match=says):
        propose_task("mine", tables(tmp_path, header, row), [], given.get("label"), None, path)
    assert path.read_bytes() == before


def test_a_name_that_is_taken(tmp_path: Path, path: Path) -> None:
    with pytest.raises(UserError, match=r"P05.*the task 'sst' already exists"):
        propose_task("sst", tables(tmp_path, "a,label", lambda n: f"{sentence(n)},{n % 2}"), [], None, None, path)


@pytest.mark.parametrize("name", ["sst", "cfimdb", "quora", "sts"])
def test_the_shipped_tasks_are_proposed_as_they_are_shipped(tmp_path: Path, path: Path, name: str) -> None:
    """Kind, text columns, label column and labels, from the bundled files alone."""
    folder = ROOT / "data"
    if not (folder / "sts-train.csv").exists():
        pytest.skip("the bundled corpus is not checked out: run `dvc pull data.dvc`")
    shipped = read_params(ROOT / "params.yaml").tasks[name].data
    files: dict[Split, Path] = {"train": folder / shipped.train, "dev": folder / shipped.dev}
    block, _ = propose_task(f"{name}2", files, [], None, None, path)
    found = read_params(path).tasks[f"{name}2"].data
    assert (found.kind, found.text, found.label, found.id) == (shipped.kind, shipped.text, shipped.label, shipped.id)
    assert found.labels == shipped.labels and block
