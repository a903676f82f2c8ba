"""Several processes give the same bytes, the same statistics and the same order of problems as one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.closure import ROOT
from tests.tokens.conftest import pairs
from tests.tokens.test_tokenizer import write_base
from yourbert.config.schema import TaskData
from yourbert.core.errors import UserError
from yourbert.corpus.rows import Row
from yourbert.tokens import workers
from yourbert.tokens.tokenize_task import tokenize_task
from yourbert.tokens.tokenizer import Tokenizer

ODD = ["caf\u00e9", "\u4e2d\u6587 film", "not [MASK] very", "\U0001f600 good", "a\u200bb", "o" * 101]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_base(tmp_path / "base")


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 7 rows, and workers from the second chunk on."""
    monkeypatch.setattr(workers, "CHUNK_ROWS", 7)
    monkeypatch.setattr(workers, "CHUNKS_HERE", 1)


def written(folder: Path, rows: int, spoilt: tuple[int, ...] = ()) -> Path:
    """A corpus whose train file has `rows` rows, those numbered in `spoilt` with an invalid label."""
    folder.mkdir(exist_ok=True)
    words = ["the film", "was good", "Very BAD", "not", *ODD]
    for name, n in (("train", rows), ("dev", 3)):
        lines = [
            f"{name}{i}\t{words[i % 10]} {'a ' * (i % 40)}\t{words[(i // 3) % 10]}\t{'x' if i in spoilt else i % 2}"
            for i in range(n)
        ]
        text = "\n".join(["id\tfirst\tsecond\tlabel", *lines]) + "\n"
        (folder / f"{name}.tsv").write_text(text, encoding="utf-8")
    return folder


def outcome(data: TaskData, corpus: Path, base: Path, out: Path, threads: int) -> tuple[Any, dict[str, bytes]]:
    statistics = tokenize_task("pairs", data, corpus, base, out, threads)
    return statistics, {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}


@pytest.mark.integration
@pytest.mark.parametrize("encoding", ["cross", "bi"])
def test_any_number_of_workers_gives_the_same_bytes(
    tmp_path: Path, base: Path, encoding: Any, small_chunks: None
) -> None:
    data, corpus = pairs(encoding=encoding, on_invalid_row="drop"), written(tmp_path / "corpus", 101, spoilt=(3, 50))
    alone = outcome(data, corpus, base, tmp_path / "1", 1)
    assert alone[0]["splits"]["train"]["rows_used"] == 99
    for number in (2, 3):
        assert outcome(data, corpus, base, tmp_path / str(number), number) == alone


@pytest.mark.parametrize(("rows", "characters"), [(1, 10**9), (50, 10**9), (10**9, 40)])
def test_any_size_of_chunk_gives_the_same_bytes(
    tmp_path: Path, base: Path, rows: int, characters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = written(tmp_path / "corpus", 101)
    whole = outcome(pairs(), corpus, base, tmp_path / "whole", 1)
    monkeypatch.setattr(workers, "CHUNK_ROWS", rows)
    monkeypatch.setattr(workers, "CHUNK_CHARACTERS", characters)
    assert outcome(pairs(), corpus, base, tmp_path / "cut", 1) == whole


def test_problems_are_in_the_order_of_the_file(tmp_path: Path, base: Path, small_chunks: None) -> None:
    corpus = written(tmp_path / "corpus", 101, spoilt=(3, 20, 99))
    told = []
    for number in (1, 2):
        with pytest.raises(UserError) as caught:
            tokenize_task("pairs", pairs(), corpus, base, tmp_path / "out", number)
        told.append(caught.value.lines())
        assert not list((tmp_path / "out").rglob("*.part"))
    assert told[0] == told[1] and [line.split(":")[1] for line in told[0]] == ["5", "22", "101"]


def rows_of(texts: list[str]) -> Iterator[Row]:
    yield from (Row(i + 2, i, str(i), [text], 0) for i, text in enumerate(texts))


def children() -> list[psutil.Process]:
    """The workers of this process, without the resource tracker of its pools."""
    return [p for p in psutil.Process().children() if "spawn_main" in " ".join(p.cmdline())]


def test_a_worker_that_dies_is_an_error_and_no_hang(base: Path, small_chunks: None) -> None:
    task = pairs(text=["first"]).to_task("t")
    encoded = workers.encode_in_order(rows_of(["good"] * 700), Tokenizer.load(base), task, base, 2)
    for _ in range(4):
        next(encoded)
    children()[0].kill()
    with pytest.raises(UserError, match="T09") as caught:
        list(encoded)
    assert caught.value.exit_code == 6 and children() == [], "none is left running"


def test_workers_end_when_the_generator_is_closed(base: Path, small_chunks: None) -> None:
    task = pairs(text=["first"]).to_task("t")
    encoded = workers.encode_in_order(rows_of(["good"] * 70), Tokenizer.load(base), task, base, 2)
    for _ in range(3):
        next(encoded)
    assert len(children()) == 2
    encoded.close()
    assert children() == []


def test_rows_are_not_read_far_ahead_of_the_workers(base: Path, small_chunks: None) -> None:
    read = 0

    def counted() -> Iterator[Row]:
        nonlocal read
        for row in rows_of(["good"] * 700):
            read += 1
            yield row

    task = pairs(text=["first"]).to_task("t")
    encoded = workers.encode_in_order(counted(), Tokenizer.load(base), task, base, 2)
    for number, _ in enumerate(encoded, start=1):
        assert read <= 7 * (number + 4)


@pytest.mark.integration
def test_a_worker_ends_when_its_parent_is_killed(base: Path) -> None:
    code = (
        "import itertools, json, pathlib, sys, time, psutil\n"
        "from yourbert.core.tasks import Task; from yourbert.corpus.rows import Row\n"
        "from yourbert.tokens import workers\n"
        "workers.CHUNK_ROWS = workers.CHUNKS_HERE = 1\n"
        "base, task = pathlib.Path(sys.argv[1]), Task.from_json(json.loads(sys.argv[2]))\n"
        "rows = (Row(i, i, str(i), ['good'], 0) for i in itertools.count())\n"
        "chunks = workers.encode_in_order(rows, workers.Tokenizer.load(base), task, base, 2)\n"
        "next(chunks), next(chunks)\n"
        "print(*(p.pid for p in psutil.Process().children()), flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(base), json.dumps(pairs(text=["first"]).to_task("t").to_json())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as parent:
        assert parent.stdout is not None
        left = [int(word) for word in parent.stdout.readline().split()]
        assert len(left) > 1
        parent.kill()
    deadline = time.monotonic() + 30
    while any(map(is_running, left)):
        assert time.monotonic() < deadline, "it is still there"
        time.sleep(0.02)


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.integration
def test_memory_per_row_is_a_few_numbers(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of this file has 260 characters and 130 tokens; less than 200 bytes of it stay in memory."""
    monkeypatch.setattr(workers, "CHUNK_ROWS", 200)

    def peak(rows: int) -> int:
        corpus = tmp_path / f"corpus{rows}"
        corpus.mkdir()
        text = "a " * 64
        for name, n in (("train", rows), ("dev", 3)):
            lines = (f"{name}{i}\t{text}{i}\t{text}{i}\t{i % 2}\n" for i in range(n))
            (corpus / f"{name}.tsv").write_text("id\tfirst\tsecond\tlabel\n" + "".join(lines))
        tracemalloc.start()
        tokenize_task("pairs", pairs(), corpus, base, tmp_path / "out")
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    small = peak(1000)
    assert (peak(9000) - small) / 8000 < 200


def test_the_number_of_workers_follows_num_threads_and_the_cores() -> None:
    assert 1 <= workers.physical_cores() <= (os.cpu_count() or 1)
    assert workers.number_of_workers(0) == min(workers.physical_cores(), workers.MAX_WORKERS)
    assert workers.number_of_workers(1) == 1 and workers.number_of_workers(1000) == workers.MAX_WORKERS
