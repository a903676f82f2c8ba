"""Tokenizing a task: tokens, statistics, warnings and errors."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.closure import ROOT
from tests.tokens.conftest import DEV, TRAIN, corpus, pairs
from yourbert.config.params import read_params
from yourbert.core.errors import UserError
from yourbert.corpus.leakage import cross_task_leakage
from yourbert.tokens.packing import open_tokens, pack
from yourbert.tokens.tokenize_task import tokenize_task
from yourbert.tokens.tokenizer import Tokenizer


def test_in_memory_and_on_disk_agree(tmp_path: Path, base: Path) -> None:
    tokenize_task("pairs", pairs(), corpus(tmp_path / "corpus"), base, tmp_path / "out")
    tokens = open_tokens(tmp_path / "out")
    here, there = pack(Tokenizer.load(base), tokens.task, [row[1:3] for row in TRAIN]), tokens.splits["train"]
    for name in ("tokens", "offsets", "second"):
        assert np.array_equal(getattr(here, name), getattr(there, name))
    assert here.labels is None and len(here) == 3 and here.ids() == ["0", "1", "2"]


def test_the_statistics(tmp_path: Path, base: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "yourbert")
    train = [*TRAIN, ("r3", "i", "O", "0"), ("r4", "good " * 20, "bad " * 20, "9"), ("r5", "good " * 20, "bad", "0")]
    train.append(("r6", "a " * 7, "a " * 6, "0"))  # 16 tokens, the maximum
    test = [("t0", "bad film", "good film", "1"), ("t1", "a\u200b", "b", "0")]
    folder = corpus(tmp_path / "corpus", train=train, test=test)
    data = pairs(on_invalid_row="drop", test="test.tsv", labels=["0", "1", "2"])
    statistics = tokenize_task("pairs", data, folder, base, tmp_path / "out")
    split = statistics["splits"]["train"]
    assert (split["rows_read"], split["rows_used"], split["rows_rejected"]) == (7, 6, 1)
    assert split["rejected"] == {"D16": 1} and split["rejected_lines"][0][:2] == [6, "D16"]
    assert split["labels"] == {"0": 4, "1": 2, "2": 0} and split["truncated"] == 1 and split["length"]["max"] == 24
    assert split["same_text_two_labels"] == 1 and split["distinct_rows"] == 5
    assert split["tokens"] == len(open_tokens(tmp_path / "out").splits["train"].tokens)
    assert statistics["overlap"] == {"dev_in_train": 1, "test_in_train": 1, "test_in_dev": 0}
    codes = [warning[:3] for warning in statistics["warnings"]]
    assert codes == ["D24", "tra", "D22", "D31", "D27", "D21", "D21"], statistics["warnings"]
    assert caplog.messages == [f"pairs: {warning}" for warning in statistics["warnings"]], "the user reads each of them"
    assert "1 of 7 rows dropped (line 6: D16 column '" in statistics["warnings"][1]
    assert "no row with label 2" in statistics["warnings"][0] and "(lines 4)" in statistics["warnings"][2]
    assert "(lines 2=3)" in statistics["warnings"][5] and "(lines 2=2)" in statistics["warnings"][6]
    assert json.loads(json.dumps(statistics, allow_nan=False)) == statistics


@pytest.mark.parametrize(
    ("texts", "keys", "warning"),
    [
        (
            ("good film " * 20, "bad"),
            {},
            "D31 train.tsv: 4 of 4 inputs are longer than max_length 16 and are truncated",
        ),
        (("電影很好看", "film"), {}, r"D32 train.tsv: 83% of the tokens are \[UNK\]: .* use a model of this language"),
        (("\u0300", "\u0301"), {}, "D33 train.tsv: 4 inputs have no token beside the special ones"),
        (("good", "bad"), {"labels": ["0", "1", "Good", "good"]}, "D38 labels that differ only in case: Good, good"),
        (("good", '"two\nlines"'), {}, r"D36 train.tsv: 4 texts contain line breaks \(lines 2, 4, 6, 8\)"),
        (("nan", "bad"), {}, r"D37 train.tsv: 4 texts only spell a missing value, .* \(lines 2, 3, 4, 5\)"),
        (("good", "bad"), {"labels": ["0", "1"]}, "D34 dev.tsv: 90% of the rows have the label 0, so accuracy says"),
    ],
)
def test_what_the_model_cannot_see_is_a_warning(
    tmp_path: Path, base: Path, texts: tuple[str, str], keys: dict[str, Any], warning: str
) -> None:
    rows = [(f"r{number}", *texts, str(int(number == 0))) for number in range(4)]
    dev = [(f"d{number}", f"good {number}", "film", str(int(number == 0))) for number in range(10)]
    folder = corpus(tmp_path / "corpus", train=rows, dev=dev)
    found = tokenize_task("pairs", pairs(**keys), folder, base, tmp_path / "out")["warnings"]
    assert any(re.match(warning, one) for one in found), found


def test_good_rows_have_no_such_warning(tmp_path: Path, base: Path) -> None:
    statistics = tokenize_task("pairs", pairs(), corpus(tmp_path / "corpus"), base, tmp_path / "out")
    assert not any(one[:3] in ("D31", "D32", "D33", "D34") for one in statistics["warnings"])
    assert not {"unknown_tokens", "inputs_without_tokens"} & statistics["splits"]["train"].keys()


def test_a_missing_test_file_is_a_warning_any_other_an_error(tmp_path: Path, base: Path) -> None:
    folder = corpus(tmp_path / "corpus")
    statistics = tokenize_task("pairs", pairs(test="tests.tsv"), folder, base, tmp_path / "out")
    assert statistics["warnings"][0].startswith("D29 no test file tests.tsv")
    (folder / "dev.tsv").unlink()
    with pytest.raises(UserError, match="D29"):
        tokenize_task("pairs", pairs(), folder, base, tmp_path / "out")


def test_other_columns_in_the_test_file_are_read_by_name_and_logged(
    tmp_path: Path, base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = corpus(tmp_path / "corpus")
    (folder / "test.tsv").write_text("0\tsecond\tid\tfirst\n1\tbad film\tt0\tgood film\n")
    with caplog.at_level("INFO", "yourbert"):
        statistics = tokenize_task("pairs", pairs(test="test.tsv"), folder, base, tmp_path / "out")
    assert "D25" in caplog.text and statistics["overlap"]["test_in_train"] == 1
    assert open_tokens(tmp_path / "out").splits["test"].ids() == ["t0"]


def test_the_problems_of_all_files_are_one_error(tmp_path: Path, base: Path) -> None:
    folder = corpus(tmp_path / "corpus", train=[*TRAIN, ("r9", "x", "y", "7")], dev=[*DEV, ("d9", "", "y", "1")])
    with pytest.raises(UserError) as caught:
        tokenize_task("pairs", pairs(), folder, base, tmp_path / "out")
    assert [(p.code, Path(p.where).name) for p in caught.value.problems] == [
        ("D16", "train.tsv:5:4"), ("D20", "dev.tsv:4:2"),
    ]  # fmt: skip
    assert not (tmp_path / "out" / "task.json").exists()


def test_a_max_length_above_the_positions_of_the_model_is_refused(tmp_path: Path, base: Path) -> None:
    with pytest.raises(UserError, match=r"P08.*max_length is 65; .* reads at most 64 tokens"):
        tokenize_task("pairs", pairs(max_length=65), corpus(tmp_path / "corpus"), base, tmp_path / "out")


def test_a_second_run_leaves_nothing_of_the_first(tmp_path: Path, base: Path) -> None:
    folder = corpus(tmp_path / "corpus", test=DEV)
    tokenize_task("pairs", pairs(test="test.tsv"), folder, base, tmp_path / "out")
    before = {p.relative_to(tmp_path): p.read_bytes() for p in (tmp_path / "out" / "train").iterdir()}
    tokenize_task("pairs", pairs(), folder, base, tmp_path / "out")
    assert before == {p.relative_to(tmp_path): p.read_bytes() for p in (tmp_path / "out" / "train").iterdir()}
    assert "test" not in open_tokens(tmp_path / "out").splits


def test_leakage_between_tasks(tmp_path: Path, base: Path) -> None:
    tokenize_task("one", pairs(), corpus(tmp_path / "c1"), base, tmp_path / "one")
    other = corpus(
        tmp_path / "c2",
        train=[("x", "NEW", "film", "0"), ("y", "a", "b", "1")],
        dev=[("p", "o", "good film", "0"), ("q", "z", "w", "1")],
    )
    tokenize_task("two", pairs(), other, base, tmp_path / "two")
    assert cross_task_leakage([tmp_path / "one", tmp_path / "two"]) == {
        "one/dev": {"two/train": 1},
        "two/dev": {"one/train": 2},
    }


def test_real_data(tmp_path: Path, base: Path) -> None:
    folder = os.environ.get("YOURBERT_REAL_DATA")
    if not folder:
        pytest.skip("YOURBERT_REAL_DATA does not name the folder of the real data")
    data = read_params(ROOT / "params.yaml").tasks["sts"].data.model_copy(update={"max_length": 64})
    statistics = tokenize_task("sts", data, Path(folder) / "cs224n", base, tmp_path / "out")
    assert statistics["overlap"]["dev_in_train"] == 16 and statistics["splits"]["dev"]["rows_used"] == 863
    assert statistics["splits"]["train"]["same_text_two_labels"] == 13
    assert open_tokens(tmp_path / "out").splits["test"].labels is None
