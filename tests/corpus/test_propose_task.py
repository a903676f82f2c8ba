"""`yourbert init` adds the block that a person would write, explains its guesses, and changes nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.closure import ROOT
from yourbert.config.params import read_params
from yourbert.core.errors import UserError
from yourbert.core.tasks import Split
from yourbert.corpus.propose_task import Choices, estimate_tokens, propose_task

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
    block, reasons = propose_task("mine", files, Choices(), path)
    assert block == {
        "kind": "classification", "train": "mine-train.csv", "dev": "mine-dev.csv", "text": ["comment"],
        "label": "verdict", "id": "key", "labels": ["no", "perhaps", "yes"], "max_length": 64,
    }  # fmt: skip
    assert read_params(path).tasks["mine"].data.labels == ["no", "perhaps", "yes"]
    assert "3 values, so a classification" in reasons[1]
    start, end = re.split(r"\n#[^\n]*(?=\nmixtures:)", before)  # the comment of the block after the tasks
    assert path.read_text().startswith(start) and path.read_text().endswith(end), "the rest stays, comments too"


def test_a_similarity_of_pairs(tmp_path: Path, path: Path) -> None:
    files = tables(
        tmp_path, "sentence_a\tsentence_b\tscore", lambda n: f"{sentence(n)}\t{sentence(n + 1)}\t{n % 41 / 8}"
    )
    block, _ = propose_task("alike", files, Choices(), path)
    assert (block["kind"], block["text"], block["label"]) == ("similarity", ["sentence_a", "sentence_b"], "score")
    assert block["range"] == [0, 5] and block["encoding"] == "bi" and "id" not in block


def test_numbers_that_are_classes(tmp_path: Path, path: Path) -> None:
    files = tables(tmp_path, "n,a,b,same", lambda n: f"{n},{sentence(n)},{sentence(n + 3)},{n % 2}")
    block, _ = propose_task("same", files, Choices(), path)
    assert block["labels"] == [0, 1] and block["text"] == ["a", "b"] and "id" not in block, (
        "no name says that n is an id"
    )


def test_named_columns_replace_the_guess(tmp_path: Path, path: Path) -> None:
    files = tables(tmp_path, "a,b,c,label", lambda n: f"{sentence(n)},{sentence(n + 1)},{n % 4},{n % 2}")
    block, _ = propose_task("mine", files, Choices(text=["b"], label="c"), path)
    assert block["text"] == ["b"] and block["label"] == "c" and block["labels"] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("header", "row", "given", "says"),
    [
        ("a,label", lambda n: f"{sentence(n)},{n % 3 or ''}", {}, "D15.*the label is missing"),
        ("a,label", lambda n: f"{sentence(n)},x{n}", {}, "P05.*80 values in 80 rows, so they are no classes"),
        ("a,b", lambda n: f"{sentence(n)},{sentence(n + 1)}", {}, "D12.*no column looks like a label"),
        ("a,label", lambda n: f"{n},{n % 2}", {}, "D12.*no column looks like a text"),
        ("a,label", lambda n: f"{sentence(n)},{n % 2}", {"label": "lable"}, "D12.*did you mean 'label'"),
        ("a,b", lambda n: f"{n},{n % 2}", {}, r"columns: 'a' \('0'\), 'b' \('0'\)\)\. Fix: name it with --text"),
        ("a,score", lambda n: f"{sentence(n)},{n / 7}", {}, "P05.*80 different numbers.*--kind classification"),
        (
            "a,label",
            lambda n: f"{sentence(n)},{('a', 'b', 'nan')[n % 3]}",
            {},
            "D15.*Fix: add it, .*--on-invalid-row drop",
        ),
        ("a,label", lambda n: f"{sentence(n)},{n % 2}", {"labels": ["1", "2"]}, "D16.*name all labels with --labels"),
        (
            "a,b,label",
            lambda n: f"{sentence(n)},{sentence(n)},{n % 6}",
            {"limits": (1, 2), "text": ["a", "b"]},
            "D18.*--range LOW HIGH",
        ),
        ("a,label", lambda n: f"{sentence(n)},yes", {"label": "label"}, "P05.*'label' has only the value 'yes'"),
        ("a,label", lambda n: f"{sentence(n)},yes", {}, "P05.*'label' has only the value 'yes'"),
        ("id,a,label", lambda n: f"1,{sentence(n)},{n % 2}", {"row_id": "id"}, "D09.*--id none"),
        (sentence(1) + ",0", lambda n: f"{sentence(n)},{n % 2}", {}, "D10.*the first line looks like a row"),
    ],
)
def test_what_cannot_be_a_task_changes_nothing(
    tmp_path: Path, path: Path, header: str, row: Any, given: dict[str, Any], says: str
) -> None:
    before = path.read_bytes()
    with pytest.raises(UserError, match=says):
        propose_task("mine", tables(tmp_path, header, row), Choices(**given), path)
    assert path.read_bytes() == before


def test_a_name_that_is_taken(tmp_path: Path, path: Path) -> None:
    with pytest.raises(UserError, match=r"P05.*the task 'sst' already exists"):
        propose_task("sst", tables(tmp_path, "a,label", lambda n: f"{sentence(n)},{n % 2}"), Choices(), path)


@pytest.mark.parametrize("name", ["sst", "cfimdb", "quora", "sts"])
def test_the_shipped_tasks_are_proposed_as_they_are_shipped(tmp_path: Path, path: Path, name: str) -> None:
    """Kind, text columns, label column and labels, from the bundled files alone."""
    folder = ROOT / "data"
    if not (folder / "sts-train.csv").exists():
        pytest.skip("the bundled corpus is not checked out: run `dvc pull data.dvc`")
    shipped = read_params(ROOT / "params.yaml").tasks[name].data
    files: dict[Split, Path] = {"train": folder / shipped.train, "dev": folder / shipped.dev}
    block, _ = propose_task(f"{name}2", files, Choices(), path)
    found = read_params(path).tasks[f"{name}2"].data
    assert (found.kind, found.text, found.label, found.id) == (shipped.kind, shipped.text, shipped.label, shipped.id)
    assert found.labels == shipped.labels and block


def test_all_rows_of_all_files_are_read(tmp_path: Path, path: Path) -> None:
    """A table that is sorted by label, with more rows of the first one than a sample has."""
    files = tables(tmp_path, "comment,verdict", lambda n: f"{sentence(n)},{'no' if n < 7000 else 'yes'}", 7500)
    files["dev"].write_text(f"comment,verdict\n{sentence(1)},perhaps\n{sentence(2)},no\n")
    block, reasons = propose_task("mine", files, Choices(), path)
    assert block["labels"] == ["no", "perhaps", "yes"] and block["metric"] == "macro_f1", "most rows are of one class"
    assert "3 values" in reasons[1]


@pytest.mark.parametrize(
    ("header", "row", "text"),
    [
        ("title,body,label", lambda n: f"order {n},{sentence(n)},{n % 2}", ["body"]),
        ("text,translation,label", lambda n: f"{sentence(n)},{sentence(n)} again and again,{n % 2}", ["text"]),
        ("question1,question2,label", lambda n: f"{sentence(n)},{sentence(n + 1)},{n % 2}", ["question1", "question2"]),
        ("premise,hypothesis,label", lambda n: f"{sentence(n)},{sentence(n + 1)},{n % 2}", ["premise", "hypothesis"]),
        ("label,review", lambda n: f"{n % 2},这部电影很好看{n}", ["review"]),
        ("label,link", lambda n: f"{n % 2},https://shop.example/item?number={n}", ["link"]),
    ],
)
def test_the_text_columns(tmp_path: Path, path: Path, header: str, row: Any, text: list[str]) -> None:
    block, _ = propose_task("mine", tables(tmp_path, header, row), Choices(), path)
    assert block["text"] == text and block["label"] == "label"


@pytest.mark.parametrize(
    ("header", "row", "row_id"),
    [
        ("rowId,text,label", lambda n: f"{n},{sentence(n)},{n % 2}", "rowId"),
        ("id,text,label", lambda n: f"{n // 2},{sentence(n)},{n % 2}", None),
        ("id,text,label", lambda n: f"{n if n % 5 else ''},{sentence(n)},{n % 2}", None),
        ("length,text,label", lambda n: f"{n / 8},{sentence(n)},{n % 2}", None),
        ("note,text,label", lambda n: f"{sentence(n)} noted,{sentence(n)},{n % 2}", None),
        ("width,text,label", lambda n: f"{n},{sentence(n)},{n % 2}", None),
    ],
)
def test_only_a_unique_column_whose_name_says_id_is_one(
    tmp_path: Path, path: Path, header: str, row: Any, row_id: str | None
) -> None:
    block, _ = propose_task("mine", tables(tmp_path, header, row), Choices(), path)
    assert block.get("id") == row_id


def test_an_option_replaces_each_guess(tmp_path: Path, path: Path) -> None:
    files = tables(tmp_path, "id,sentence1,sentence2,label", lambda n: f"{n},{sentence(n)},{sentence(n + 1)},{n % 3}")
    choices = Choices(
        text=["sentence2"], row_id="none", labels=["2", "1", "0"], max_length=100, metric="mcc", on_invalid_row="drop"
    )
    block, reasons = propose_task("mine", files, choices, path)
    assert block == {
        "kind": "classification", "train": "mine-train.csv", "dev": "mine-dev.csv", "text": ["sentence2"],
        "label": "label", "labels": [2, 1, 0], "max_length": 100, "metric": "mcc", "on_invalid_row": "drop",
    }  # fmt: skip
    assert "3 classes, as given" in reasons[1]
    choices = Choices(kind="similarity", encoding="cross", limits=(0, 3))
    block, _ = propose_task("other", files, choices, path)
    assert (block["kind"], block["range"], block["encoding"]) == ("similarity", [0, 3], "cross")


def test_a_named_label_may_have_many_classes(tmp_path: Path, path: Path) -> None:
    files = tables(tmp_path, "text,intent", lambda n: f"{sentence(n)},intent {n % 77}", 400)
    for number, choices in enumerate([Choices(), Choices(label="intent")]):
        block, _ = propose_task(f"mine{number}", files, choices, path)
        assert len(block["labels"]) == 77


def test_labels_that_differ_only_in_case_are_reported(tmp_path: Path, path: Path) -> None:
    files = tables(tmp_path, "text,label", lambda n: f"{sentence(n)},{('Good', 'good', 'bad')[n % 3]}")
    _, reasons = propose_task("mine", files, Choices(), path)
    assert "only the case differs in Good and good" in reasons[1]


def test_none_is_a_class_and_nan_is_not(tmp_path: Path, path: Path) -> None:
    files = tables(tmp_path, "text,label", lambda n: f"{sentence(n)},{('none', 'for', 'NaN')[n % 3]}")
    block, _ = propose_task("mine", files, Choices(on_invalid_row="drop"), path)
    assert block["labels"] == ["for", "none"]


def test_files_of_different_folders_are_refused(tmp_path: Path, path: Path) -> None:
    files = tables(tmp_path, "text,label", lambda n: f"{sentence(n)},{n % 2}")
    (tmp_path / "dev").mkdir()
    elsewhere = files["dev"].rename(tmp_path / "dev" / "mine-train.csv")
    with pytest.raises(UserError, match=r"P05.*different folders: .*Fix: put them into one folder"):
        propose_task("mine", {**files, "dev": elsewhere}, Choices(), path)
    with pytest.raises(UserError, match=r"P05.*train and dev are the same file"):
        propose_task("mine", {**files, "dev": files["train"]}, Choices(), path)


def test_the_length_is_counted_with_the_tokenizer(tmp_path: Path, path: Path) -> None:
    files = tables(tmp_path, "text,label", lambda n: f"{sentence(n)},{n % 2}")
    block, reasons = propose_task("mine", files, Choices(), path, lambda texts: [100] * len(texts))
    assert block["max_length"] == 128 and "max_length: 128 (0%" in reasons[3]
    block, reasons = propose_task("long", files, Choices(), path, lambda texts: [1000] * len(texts))
    assert block["max_length"] == 512 and "100% of the sampled training rows are truncated" in reasons[3]


def test_the_estimated_number_of_tokens() -> None:
    assert estimate_tokens(["a lazy dog.", "https://shop.example/a8f3kq2zx91", "很好看", ""]) == [4, 11, 4, 0]


def test_columns_with_lists_and_objects_are_not_used(tmp_path: Path, path: Path) -> None:
    files: dict[Split, Path] = {}
    for split, start in (("train", 0), ("dev", 1000)):
        rows = [
            {"tags": ["a"], "text": sentence(n), "label": bool(n % 2), "meta": {"n": n}}
            for n in range(start, start + 40)
        ]
        files[split] = tmp_path / f"mine-{split}.jsonl"  # type: ignore[index]
        files[split].write_text("".join(json.dumps(row) + "\n" for row in rows))  # type: ignore[index]
    block, _ = propose_task("mine", files, Choices(), path)
    assert (block["text"], block["label"], block["labels"]) == (["text"], "label", ["false", "true"])
    with pytest.raises(UserError, match=r"D35.*column 'tags': a list is not a text"):
        propose_task("other", files, Choices(text=["tags"]), path)
