"""From files to tokens on disk: nothing lost on the way, every array in step, every number of the account true."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.tokens.test_tokenizer import write_base
from yourbert.config.params import read_params
from yourbert.config.schema import TaskData
from yourbert.core.errors import UserError
from yourbert.core.storage import read_array
from yourbert.core.tasks import Task
from yourbert.corpus.overlap import overlaps, row_keys, text_hash
from yourbert.tokens.packing import Encoded, GrowingArray, SplitWriter, open_split, open_tokens, pack
from yourbert.tokens.tokenize_task import tokenize_task
from yourbert.tokens.tokenizer import Tokenizer

ROOT = Path(__file__).parents[2]
TRAIN = [("r0", "good film", "bad film", "0"), ("r1", "the film was good", "a film", "1"), ("r2", "o", "i", "1")]
DEV = [("d0", "A  Film", "the FILM was good", "1"), ("d1", "new", "text", "0")]
Rows = list[tuple[str, str, str, str]]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_base(tmp_path / "base")


def corpus(folder: Path, train: Rows = TRAIN, dev: Rows = DEV, test: Rows | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    for name, rows in (("train", train), ("dev", dev), ("test", test)):
        if rows is not None:
            lines = ["id\tfirst\tsecond\tlabel", *("\t".join(row) for row in rows)]
            (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    return folder


def pairs(**changes: Any) -> TaskData:
    facts: dict[str, Any] = {
        "kind": "classification", "train": "train.tsv", "dev": "dev.tsv", "text": ["first", "second"], "label": "label",
        "id": "id", "labels": ["0", "1"], "max_length": 16,
    }  # fmt: skip
    return TaskData(**{**facts, **changes})


def test_a_pair_in_one_input(tmp_path: Path, base: Path) -> None:
    account = tokenize_task("pairs", pairs(), corpus(tmp_path / "corpus"), base, tmp_path / "out")
    tokens = open_tokens(tmp_path / "out")
    train = tokens.splits["train"]
    tokenizer = Tokenizer.load(base)
    expected = tokenizer.encode([row[1] for row in TRAIN], [row[2] for row in TRAIN], 16, "head")[0]
    for s, (ids, second) in enumerate(expected):
        assert train.tokens[train.offsets[s] : train.offsets[s + 1]].tolist() == ids and train.second[s] == second
    assert train.tokens.dtype == np.uint16 and train.second.dtype == np.int32 and train.offsets.dtype == np.int64
    assert train.labels is not None and train.labels.tolist() == [0, 1, 1] and train.labels.dtype == np.int64
    assert len(train) == train.n_sequences == 3 and train.ids() == ["r0", "r1", "r2"]
    assert tokens.vocabulary_sha256 == tokenizer.sha256 == account["vocabulary_sha256"] and tokens.lower_case
    assert tokens.task == pairs().facts("pairs") and set(tokens.splits) == {"train", "dev"}


def test_a_pair_in_two_inputs(tmp_path: Path, base: Path) -> None:
    data = pairs(kind="similarity", labels=None, range=[0.0, 1.0], encoding="bi", id=None)
    tokenize_task("bi", data, corpus(tmp_path / "corpus"), base, tmp_path / "out")
    train = open_tokens(tmp_path / "out").splits["train"]
    tokenizer = Tokenizer.load(base)
    assert (len(train), train.n_sequences, train.ids()) == (3, 6, ["0", "1", "2"])
    for r, row in enumerate(TRAIN):
        for side in (0, 1):
            s = 2 * r + side
            ids, second = tokenizer.encode([row[1 + side]], None, 16, "head")[0][0]
            assert train.tokens[train.offsets[s] : train.offsets[s + 1]].tolist() == ids and train.second[s] == second
    assert train.labels is not None and train.labels.dtype == np.float32


def test_in_memory_and_on_disk_agree(tmp_path: Path, base: Path) -> None:
    tokenize_task("pairs", pairs(), corpus(tmp_path / "corpus"), base, tmp_path / "out")
    tokens = open_tokens(tmp_path / "out")
    here, there = pack(Tokenizer.load(base), tokens.task, [row[1:3] for row in TRAIN]), tokens.splits["train"]
    for name in ("tokens", "offsets", "second"):
        assert np.array_equal(getattr(here, name), getattr(there, name))
    assert here.labels is None and len(here) == 3 and here.ids() == ["0", "1", "2"]


def test_the_account(tmp_path: Path, base: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "yourbert")
    train = [*TRAIN, ("r3", "i", "O", "0"), ("r4", "good " * 20, "bad " * 20, "9"), ("r5", "good " * 20, "bad", "0")]
    train.append(("r6", "a " * 7, "a " * 6, "0"))  # 16 tokens: as many as fit
    test = [("t0", "bad film", "good film", "1"), ("t1", "a\u200b", "b", "0")]
    folder = corpus(tmp_path / "corpus", train=train, test=test)
    data = pairs(on_bad_row="drop", test="test.tsv", labels=["0", "1", "2"])
    account = tokenize_task("pairs", data, folder, base, tmp_path / "out")
    split = account["splits"]["train"]
    assert (split["rows_read"], split["rows_used"], split["rows_rejected"]) == (7, 6, 1)
    assert split["rejected"] == {"D16": 1} and split["rejected_lines"][0][:2] == [6, "D16"]
    assert split["labels"] == {"0": 4, "1": 2, "2": 0} and split["truncated"] == 1 and split["length"]["max"] == 24
    assert split["same_text_two_labels"] == 1 and split["distinct_rows"] == 5
    assert split["tokens"] == len(open_tokens(tmp_path / "out").splits["train"].tokens)
    assert account["overlap"] == {"dev_in_train": 1, "test_in_train": 1, "test_in_dev": 0}
    codes = [warning[:3] for warning in account["warnings"]]
    assert codes == ["D24", "tra", "D22", "D27", "D21", "D21"], account["warnings"]
    assert caplog.messages == [f"pairs: {warning}" for warning in account["warnings"]], "the user reads each of them"
    assert "1 of 7 rows dropped (line 6: D16 column '" in account["warnings"][1]
    assert "no row with label 2" in account["warnings"][0] and "(lines 4)" in account["warnings"][2]
    assert "(lines 2=3)" in account["warnings"][4] and "(lines 2=2)" in account["warnings"][5]
    assert json.loads(json.dumps(account, allow_nan=False)) == account


def test_a_test_file_that_is_not_there_is_a_warning_any_other_an_error(tmp_path: Path, base: Path) -> None:
    folder = corpus(tmp_path / "corpus")
    account = tokenize_task("pairs", pairs(test="tests.tsv"), folder, base, tmp_path / "out")
    assert account["warnings"][0].startswith("D29 no test file tests.tsv")
    (folder / "dev.tsv").unlink()
    with pytest.raises(UserError, match="D29"):
        tokenize_task("pairs", pairs(), folder, base, tmp_path / "out")


def test_other_columns_in_the_test_file_are_read_by_name_and_noted(
    tmp_path: Path, base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = corpus(tmp_path / "corpus")
    (folder / "test.tsv").write_text("0\tsecond\tid\tfirst\n1\tbad film\tt0\tgood film\n")
    with caplog.at_level("INFO", "yourbert"):
        account = tokenize_task("pairs", pairs(test="test.tsv"), folder, base, tmp_path / "out")
    assert "D25" in caplog.text and account["overlap"]["test_in_train"] == 1
    assert open_tokens(tmp_path / "out").splits["test"].ids() == ["t0"]


def test_the_problems_of_all_files_are_one_error(tmp_path: Path, base: Path) -> None:
    folder = corpus(tmp_path / "corpus", train=[*TRAIN, ("r9", "x", "y", "7")], dev=[*DEV, ("d9", "", "y", "1")])
    with pytest.raises(UserError) as caught:
        tokenize_task("pairs", pairs(), folder, base, tmp_path / "out")
    assert [(p.code, Path(p.where).name) for p in caught.value.problems] == [
        ("D16", "train.tsv:5:4"), ("D20", "dev.tsv:4:2"),
    ]  # fmt: skip
    assert not (tmp_path / "out" / "task.json").exists()


def test_more_tokens_than_the_model_reads_are_refused(tmp_path: Path, base: Path) -> None:
    with pytest.raises(UserError, match=r"P08.*max_length is 65; .* reads 64 tokens"):
        tokenize_task("pairs", pairs(max_length=65), corpus(tmp_path / "corpus"), base, tmp_path / "out")


def test_a_second_run_leaves_nothing_of_the_first(tmp_path: Path, base: Path) -> None:
    folder = corpus(tmp_path / "corpus", test=DEV)
    tokenize_task("pairs", pairs(test="test.tsv"), folder, base, tmp_path / "out")
    before = {p.relative_to(tmp_path): p.read_bytes() for p in (tmp_path / "out" / "train").iterdir()}
    tokenize_task("pairs", pairs(), folder, base, tmp_path / "out")
    assert before == {p.relative_to(tmp_path): p.read_bytes() for p in (tmp_path / "out" / "train").iterdir()}
    assert "test" not in open_tokens(tmp_path / "out").splits


def test_arrays_out_of_step_are_refused(tmp_path: Path, base: Path) -> None:
    tokenize_task("pairs", pairs(), corpus(tmp_path / "corpus"), base, tmp_path / "out")
    np.save(tmp_path / "out" / "dev" / "second.npy", np.zeros(7, dtype=np.int32))
    with pytest.raises(UserError, match=r"C01.*do not belong together"):
        open_tokens(tmp_path / "out")


def sequence(ids: list[int]) -> Encoded:
    length = np.array([len(ids)])
    return Encoded(np.array(ids, np.int32), length, length, length)


def test_an_interrupted_write_leaves_no_file(tmp_path: Path) -> None:
    task = pairs().facts("pairs")
    with pytest.raises(KeyboardInterrupt), SplitWriter(tmp_path, task, 100, has_labels=True) as writer:
        writer.append(["a"], [1], sequence([1, 2]))
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


@given(st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=20), max_size=10), st.booleans())
def test_what_is_appended_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[int]], wide: bool
) -> None:
    path = tmp_path_factory.mktemp("grow") / "a.npy"
    values = [np.array(part, dtype=np.int64) % (2**31 if wide else 2**16) for part in parts]
    with path.open("wb") as file:
        array = GrowingArray(file, "<i4" if wide else "<u2")
        for part in values:
            array.append(part)
        array.finish()
    assert read_array(path).tolist() == [int(v) for part in values for v in part]


def test_a_large_vocabulary_gets_wider_tokens(tmp_path: Path) -> None:
    task: Task = pairs(text=["first"]).facts("t")
    with SplitWriter(tmp_path, task, 65_536, has_labels=False) as writer:
        writer.append(["a"], [None], sequence([65_535]))
    split = open_split(tmp_path, task)
    assert split.tokens.dtype == np.int32 and split.tokens.tolist() == [65_535] and split.labels is None


@given(arrays(np.uint64, st.tuples(st.integers(1, 20), st.just(2))))
def test_a_pair_has_one_key_in_either_order(texts_RN: Any) -> None:
    assert np.array_equal(row_keys(texts_RN), row_keys(texts_RN[:, ::-1]))
    assert len(np.unique(row_keys(texts_RN))) == len({tuple(sorted(row)) for row in texts_RN.tolist()})


def test_texts_that_differ_in_case_and_space_alone_are_one() -> None:
    assert text_hash(" A  film\n") == text_hash("a film") != text_hash("afilm")


def test_overlap_between_tasks(tmp_path: Path, base: Path) -> None:
    tokenize_task("one", pairs(), corpus(tmp_path / "c1"), base, tmp_path / "one")
    other = corpus(
        tmp_path / "c2",
        train=[("x", "NEW", "film", "0"), ("y", "a", "b", "1")],
        dev=[("p", "o", "good film", "0"), ("q", "z", "w", "1")],
    )
    tokenize_task("two", pairs(), other, base, tmp_path / "two")
    assert overlaps([tmp_path / "one", tmp_path / "two"]) == {"one/dev": {"two/train": 1}, "two/dev": {"one/train": 2}}


def test_real_data(tmp_path: Path, base: Path) -> None:
    folder = os.environ.get("YOURBERT_REAL_DATA")
    if not folder:
        pytest.skip("YOURBERT_REAL_DATA does not name the folder of the real data")
    data = read_params(ROOT / "params.yaml").tasks["sts"].data.model_copy(update={"max_length": 64})
    account = tokenize_task("sts", data, Path(folder) / "cs224n", base, tmp_path / "out")
    assert account["overlap"]["dev_in_train"] == 16 and account["splits"]["dev"]["rows_used"] == 863
    assert account["splits"]["train"]["same_text_two_labels"] == 13
    assert open_tokens(tmp_path / "out").splits["test"].labels is None
