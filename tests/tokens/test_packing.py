"""From files to tokens on disk: no row is lost, and the arrays match."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tokens.conftest import TRAIN, corpus, pairs
from yourbert.core.errors import UserError
from yourbert.core.storage import read_array
from yourbert.core.tasks import Task
from yourbert.tokens.packing import Encoded, GrowingArray, SplitWriter, open_split, open_tokens
from yourbert.tokens.tokenize_task import tokenize_task
from yourbert.tokens.tokenizer import Tokenizer


def test_a_pair_in_one_input(tmp_path: Path, base: Path) -> None:
    statistics = tokenize_task("pairs", pairs(), corpus(tmp_path / "corpus"), base, tmp_path / "out")
    tokens = open_tokens(tmp_path / "out")
    train = tokens.splits["train"]
    tokenizer = Tokenizer.load(base)
    expected = tokenizer.encode([row[1] for row in TRAIN], [row[2] for row in TRAIN], 16, "right")[0]
    for s, (ids, second) in enumerate(expected):
        assert train.tokens[train.offsets[s] : train.offsets[s + 1]].tolist() == ids and train.second[s] == second
    assert train.tokens.dtype == np.uint16 and train.second.dtype == np.int32 and train.offsets.dtype == np.int64
    assert train.labels is not None and train.labels.tolist() == [0, 1, 1] and train.labels.dtype == np.int64
    assert len(train) == train.n_sequences == 3 and train.ids() == ["r0", "r1", "r2"]
    assert tokens.vocabulary_sha256 == tokenizer.sha256 == statistics["vocabulary_sha256"] and tokens.lower_case
    assert tokens.task == pairs().to_task("pairs") and set(tokens.splits) == {"train", "dev"}


def test_a_pair_in_two_inputs(tmp_path: Path, base: Path) -> None:
    data = pairs(kind="similarity", labels=None, range=[0.0, 1.0], encoding="bi", id=None)
    tokenize_task("bi", data, corpus(tmp_path / "corpus"), base, tmp_path / "out")
    train = open_tokens(tmp_path / "out").splits["train"]
    tokenizer = Tokenizer.load(base)
    assert (len(train), train.n_sequences, train.ids()) == (3, 6, ["0", "1", "2"])
    for r, row in enumerate(TRAIN):
        for side in (0, 1):
            s = 2 * r + side
            ids, second = tokenizer.encode([row[1 + side]], None, 16, "right")[0][0]
            assert train.tokens[train.offsets[s] : train.offsets[s + 1]].tolist() == ids and train.second[s] == second
    assert train.labels is not None and train.labels.dtype == np.float32


def test_arrays_that_do_not_match_are_refused(tmp_path: Path, base: Path) -> None:
    tokenize_task("pairs", pairs(), corpus(tmp_path / "corpus"), base, tmp_path / "out")
    np.save(tmp_path / "out" / "dev" / "second.npy", np.zeros(7, dtype=np.int32))
    with pytest.raises(UserError, match=r"C01.*do not match"):
        open_tokens(tmp_path / "out")


def sequence(ids: list[int]) -> Encoded:
    length = np.array([len(ids)])
    return Encoded(np.array(ids, np.int32), length, length, length)


def test_an_interrupted_write_leaves_no_file(tmp_path: Path) -> None:
    task = pairs().to_task("pairs")
    with pytest.raises(KeyboardInterrupt), SplitWriter(tmp_path, task, 100, has_labels=True) as writer:
        writer.append(["a"], [1], sequence([1, 2]))
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


@given(st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=20), max_size=10), st.booleans())
def test_appended_values_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[int]], wide: bool
) -> None:
    path = tmp_path_factory.mktemp("grow") / "a.npy"
    values = [np.array(part, dtype=np.int64) % (2**31 if wide else 2**16) for part in parts]
    with path.open("wb") as file:
        array = GrowingArray(file, "<i4" if wide else "<u2")
        for part in values:
            array.append(part)
        array.finalize()
    assert read_array(path).tolist() == [int(v) for part in values for v in part]


def test_a_large_vocabulary_gets_wider_tokens(tmp_path: Path) -> None:
    task: Task = pairs(text=["first"]).to_task("t")
    with SplitWriter(tmp_path, task, 65_536, has_labels=False) as writer:
        writer.append(["a"], [None], sequence([65_535]))
    split = open_split(tmp_path, task)
    assert split.tokens.dtype == np.int32 and split.tokens.tolist() == [65_535] and split.labels is None
