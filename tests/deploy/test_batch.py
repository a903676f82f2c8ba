"""`yourbert predict`: one prediction per row, in order, equal to that of `evaluate`; no partial files."""

from __future__ import annotations

import csv
import io
import json
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.closure import ROOT
from tests.support.predicting import DATA, TASKS, saved, sentence
from yourbert import cli
from yourbert.config.schema import Evaluate, Runtime
from yourbert.core.storage import read_json, write_json, write_manifest
from yourbert.deploy import batch
from yourbert.evaluation.evaluate import evaluate
from yourbert.inference.model_folder import load_model
from yourbert.inference.predict import predict_texts
from yourbert.runtime import machine
from yourbert.tokens.tokenize_task import tokenize_task
from yourbert.tokens.tokenizer import Tokenizer

pytestmark = pytest.mark.integration

FP32 = Runtime(device="cpu", precision="fp32", num_threads=1, deterministic=False)


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("all"), TASKS)


@pytest.fixture(scope="module")
def mood(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("mood"), {"mood": TASKS["mood"]})


@pytest.fixture
def yourbert(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> Command:
    """Runs the command in this process: its status, output and errors."""

    caplog.set_level("INFO", "yourbert")

    def run(*words: object, stdin: bytes = b"") -> tuple[int, str, str]:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["yourbert", *map(str, words)])
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            patch.setattr(signal, "signal", lambda *args: None)
            with pytest.raises(SystemExit) as ended:
                cli.main()
        captured = capfd.readouterr()
        stderr = captured.err + "".join(f"{message}\n" for message in caplog.messages)
        caplog.clear()
        return int(ended.value.code or 0), captured.out, stderr

    return run


PLAIN = ("--precision", "fp32", "--num-threads", "1")


def table(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


@pytest.mark.parametrize("name", TASKS)
def test_the_answers_are_those_of_evaluate(folder: Path, name: str, tmp_path: Path, yourbert: Command) -> None:
    data, task = DATA[name], TASKS[name]
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    header = [*(["id"] if data.id else []), *data.text, data.label]
    labels = task.labels or ("0.5", "3")
    for file, n in (("t.csv", 4), ("d.csv", 60)):
        with (corpus / file).open("w", encoding="utf-8", newline="") as opened:
            writer = csv.writer(opened)
            writer.writerow(header)
            for i in range(n):
                row_id = [f"r{i}"] if data.id else []
                writer.writerow([*row_id, *(sentence(i + 31 * j) for j in range(len(data.text))), labels[i % 2]])
    alone = saved(tmp_path / "one", {name: task})
    tokenize_task(name, data, corpus, tmp_path / "one" / "base", tmp_path / "tokens" / name)
    evaluation = Evaluate(bootstrap_samples=100, confidence_level=0.95, submission={})
    out = tmp_path / "predictions"
    evaluate(alone, tmp_path / "tokens", evaluation, FP32, out, tmp_path / "m.json", tmp_path / "c.csv")
    expected = table((out / f"{name}-dev.csv").read_text(encoding="utf-8"))
    status, stdout, stderr = yourbert("predict", alone, corpus / "d.csv", *PLAIN)
    found = table(stdout)
    assert status == 0 and found[0] == [cell for cell in expected[0] if cell != "label"] and len(found) == 61
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        assert ours[0] == theirs[0] and (task.kind == "similarity" or ours[1] == theirs[2])
        numbers = slice(1, None) if task.kind == "similarity" else slice(2, None)
        np.testing.assert_allclose(
            [float(v) for v in ours[numbers]], [float(v) for v in theirs[1:][numbers]], atol=1e-5
        )
    assert len({tuple(row[1:]) for row in found}) > 10, "the rows have different answers"
    assert f"{name}: 60 rows" in stderr and "texts truncated to 16 tokens" in stderr


def test_windows_of_any_size_give_the_same_answers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = machine.prepare(FP32)
    model, tasks = load_model(folder, here)
    tokenizer = Tokenizer.load(folder)
    for task in tasks.values():
        texts = [[sentence(i + 31 * j) for j in range(1 + task.pair)] for i in range(60)]
        whole, cut = predict_texts(model, task, tokenizer, texts, here)
        for size in (1, 7):
            parts = [predict_texts(model, task, tokenizer, texts[i : i + size], here) for i in range(0, 60, size)]
            np.testing.assert_allclose(np.concatenate([part for part, _ in parts]), whole, atol=1e-5)
            np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), cut)
            assert 0 < cut.sum() < len(cut)


@pytest.mark.parametrize(("rows", "characters"), [(1, 10**9), (7, 10**9), (10**9, 50)])
def test_the_command_works_in_windows(
    mood: Path, rows: int, characters: int, yourbert: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin = "".join(f"{sentence(i)}\n" for i in range(30)).encode()
    _, whole, _ = yourbert("predict", mood, "-", *PLAIN, stdin=stdin)
    monkeypatch.setattr(batch, "WINDOW_ROWS", rows)
    monkeypatch.setattr(batch, "WINDOW_CHARACTERS", characters)
    status, parts, _ = yourbert("predict", mood, "-", *PLAIN, stdin=stdin)
    assert status == 0 and len(table(parts)) == 31
    for ours, theirs in zip(table(parts)[1:], table(whole)[1:], strict=True):
        assert ours[:2] == theirs[:2]
        np.testing.assert_allclose([float(v) for v in ours[2:]], [float(v) for v in theirs[2:]], atol=1e-5)


lines = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), min_size=1, max_size=30)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=st.lists(lines.map(lambda text: f"a{text}"), max_size=12))
def test_as_many_answers_as_lines_whatever_stands_in_them(mood: Path, yourbert: Command, drawn: list[str]) -> None:
    status, stdout, _ = yourbert("predict", mood, "-", *PLAIN, stdin="".join(f"{t}\n" for t in drawn).encode())
    found = table(stdout)[1:]
    assert status == 0 and [row[0] for row in found] == [str(i) for i in range(len(drawn))]
    for row in found:
        assert row[1] in TASKS["mood"].labels and sum(map(float, row[2:])) == pytest.approx(1, abs=1e-4)


def test_ten_thousand_texts_of_any_characters(mood: Path, yourbert: Command) -> None:
    """I03: what no alphabet has, too; U+2028 and the like end no line."""
    chance = random.Random(3)
    characters = [chr(n) for n in range(1, 0x110000) if not 0xD800 <= n < 0xE000 and n not in (10, 13)]
    texts = ["a" + "".join(chance.choices(characters, k=chance.randint(0, 20))) for _ in range(10_000)]
    status, stdout, _ = yourbert("predict", mood, "-", *PLAIN, stdin="".join(f"{t}\n" for t in texts).encode())
    found = table(stdout)[1:]
    assert status == 0 and [row[0] for row in found] == [str(i) for i in range(len(texts))]


def test_a_text_of_a_megabyte_is_cut_and_answered(mood: Path, yourbert: Command) -> None:
    """I02: its memory is a small multiple of its size, and it delays nobody by more than its reading."""
    long = "good film " * 99_999
    tracemalloc.start()
    status, stdout, stderr = yourbert("predict", mood, "-", *PLAIN, stdin=f"{long}\nbad film\n".encode())
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert status == 0 and len(table(stdout)) == 3 and "1 texts truncated to 16 tokens" in stderr
    assert most < 100 * len(long)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_the_output_formats(folder: Path, suffix: str, tmp_path: Path, yourbert: Command) -> None:
    asked = tmp_path / "asked.csv"
    asked.write_text('id,sentence\n"a,\n""b""",good\n\u4e2d,bad film\n', encoding="utf-8")
    out = tmp_path / "new" / f"answers{suffix}"
    status, stdout, _ = yourbert("predict", folder, asked, "--task", "mood", "--out", out, *PLAIN)
    assert (status, stdout) == (0, "") and [p.name for p in out.parent.iterdir()] == [out.name]
    text = out.read_text(encoding="utf-8")
    _, stdout, _ = yourbert("predict", folder, asked, "--task", "mood", *PLAIN)
    heading, *rows = table(stdout)
    assert heading == ["id", "prediction", "p_bad", "p_fair", "p_good, very"]
    assert [row[0] for row in rows] == ['a,\n"b"', "\u4e2d"]
    if suffix == ".jsonl":
        for line, row in zip(text.splitlines(), rows, strict=True):
            shares = dict(zip(TASKS["mood"].labels, map(float, row[2:]), strict=True))
            assert json.loads(line) == {"id": row[0], "prediction": row[1], "probabilities": shares}
    else:
        assert list(csv.reader(io.StringIO(text), delimiter="\t" if suffix == ".tsv" else ",")) == [heading, *rows]


def test_a_similarity_in_json_is_a_number(folder: Path, tmp_path: Path, yourbert: Command) -> None:
    out = tmp_path / "a.jsonl"
    assert yourbert("predict", folder, "-", "--task", "sim", "--out", out, stdin=b"good\tbad\n")[0] == 0
    answer = json.loads(out.read_text())
    assert answer.keys() == {"id", "prediction"} and 0 <= answer["prediction"] <= 5


def test_a_folder_that_does_not_record_its_columns(tmp_path: Path, yourbert: Command) -> None:
    model = saved(tmp_path, {"mood": TASKS["mood"]})
    about = read_json(model / "model.json")
    for key in ("columns", "id_column"):
        del about["tasks"]["mood"][key]
    write_json(model / "model.json", about)
    write_manifest(model)
    (tmp_path / "t.csv").write_text("id,sentence\nx,good\n")
    status, _, stderr = yourbert("predict", model, tmp_path / "t.csv")
    assert status == 3 and "YB-I04" in stderr and "--columns" in stderr
    status, stdout, _ = yourbert("predict", model, tmp_path / "t.csv", "--columns", "sentence", "--id", "id")
    assert status == 0 and table(stdout)[1][0] == "x"


@pytest.mark.parametrize(
    ("words", "status", "stderr"),
    [
        ((), 2, "YB-P05 yourbert: the following arguments are required: COMMAND"),
        (("predikt",), 2, "YB-P05 yourbert: argument COMMAND: invalid choice: 'predikt'"),
        (("predict", "MODEL"), 2, "required: input"),
        (("predict", "MODEL", "-", "--num-threads", "x"), 2, "argument --num-threads: 'x' is not a whole number"),
        (
            ("predict", "MODEL", "-", "--out", "a.txt"),
            2,
            "YB-P05 --out a.txt: unknown format; the name must end in one of .csv, .tsv, .jsonl",
        ),
        (("predict", "nowhere", "-"), 5, "YB-C01 nowhere: not a model folder"),
        (("predict", "MODEL", "-"), 3, "YB-I06 MODEL: the model has several tasks (mood, same, sim); name one"),
        (
            ("predict", "MODEL", "-", "--task", "moot"),
            3,
            "no task 'moot' (the model has mood, same, sim); did you mean",
        ),
        (("predict", "MODEL", "no.csv", "--task", "mood"), 3, "YB-D29 no.csv: cannot read it"),
    ],
)
def test_a_mistake_is_one_line(
    folder: Path, words: tuple[str, ...], status: int, stderr: str, yourbert: Command
) -> None:
    found = yourbert(*(str(folder) if word == "MODEL" else word for word in words))
    assert found[:2] == (status, "") and stderr.replace("MODEL", str(folder)) in found[2]
    assert len(found[2].splitlines()) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_is_not_blamed_on_the_parameters(folder: Path, yourbert: Command) -> None:
    status, _, stderr = yourbert("predict", folder, "-", "--device", "cuda")
    assert status == 2 and "YB-P17 command line: device is cuda" in stderr


def test_a_bad_row_at_the_end_is_found_before_anything_is_computed(
    mood: Path, tmp_path: Path, yourbert: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "WINDOW_ROWS", 1)
    monkeypatch.setattr(batch, "predict_texts", None)
    (tmp_path / "t.txt").write_text("good\n" * 9 + "\n")
    (tmp_path / "a.csv").write_text("as it was")
    status, stdout, stderr = yourbert("predict", mood, tmp_path / "t.txt", "--out", tmp_path / "a.csv")
    assert (status, stdout) == (3, "") and f"YB-I01 {tmp_path}/t.txt:10:1" in stderr
    assert (tmp_path / "a.csv").read_text() == "as it was" and len(list(tmp_path.iterdir())) == 2


def test_the_input_is_never_overwritten(mood: Path, tmp_path: Path, yourbert: Command) -> None:
    (tmp_path / "t.csv").write_text("sentence\ngood\n")
    (tmp_path / "link.csv").symlink_to(tmp_path / "t.csv")
    for out in (tmp_path / "t.csv", tmp_path / "x" / ".." / "t.csv", tmp_path / "link.csv"):
        (tmp_path / "x").mkdir(exist_ok=True)
        status, _, stderr = yourbert("predict", mood, tmp_path / "t.csv", "--out", out, "--columns", "sentence")
        assert status == 2 and f"YB-P05 --out {out}: this is the input file" in stderr
    assert (tmp_path / "t.csv").read_text() == "sentence\ngood\n"


def test_nothing_is_printed_if_a_row_of_a_short_input_is_bad(folder: Path, yourbert: Command) -> None:
    status, stdout, stderr = yourbert("predict", folder, "-", "--task", "sim", stdin=b"a\tb\nalone\n")
    assert (status, stdout) == (3, "") and stderr.startswith("YB-I04 stdin:2: 1 field; this task reads two texts")


def test_from_a_pipe_a_bad_row_leaves_no_file(
    mood: Path, tmp_path: Path, yourbert: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "WINDOW_ROWS", 2)
    out = tmp_path / "a.csv"
    status, _, stderr = yourbert("predict", mood, "-", "--out", out, *PLAIN, stdin=b"a\nb\nc\n\n")
    assert status == 3 and "YB-I01 stdin:4:1" in stderr and not list(tmp_path.iterdir())


def command(*words: object, windows: int = 20_000) -> list[str]:
    """The command in a process of its own, with windows of another size."""
    code = f"import yourbert.deploy.batch as a, yourbert.cli as c; a.WINDOW_ROWS = {windows}; c.main()"
    return [sys.executable, "-c", code, *map(str, words)]


def test_an_output_that_nobody_reads_any_more(mood: Path, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("good film\n" * 20_000)
    words = command("predict", mood, tmp_path / "t.txt", *PLAIN, windows=200)
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b'id,prediction,p_bad,p_fair,"p_good, very"\n'
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_closed_input_and_a_closed_output(mood: Path) -> None:
    words = " ".join(f"'{word}'" for word in command("predict", mood, "-", *PLAIN))
    done = subprocess.run(f"{words} <&-", shell=True, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.count("\n") == 1 and "Traceback" not in done.stderr
    done = subprocess.run(f"echo good | {words} >&-", shell=True, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 141 and done.stderr == ""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_leaves_the_old_file(mood: Path, tmp_path: Path, how: signal.Signals) -> None:
    (tmp_path / "t.txt").write_text("good film\n" * 500_000)
    out = tmp_path / "a.csv"
    out.write_text("as it was")
    words = command("predict", mood, tmp_path / "t.txt", "--out", out, *PLAIN, windows=200)
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not any(p.stat().st_size > 20_000 for p in tmp_path.glob("*.part")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(how)
    assert process.returncode == (-9 if how == signal.SIGKILL else 143)
    assert out.read_text() == "as it was"
    assert how == signal.SIGKILL or not list(tmp_path.glob("*.part")), "who is asked to end tidies up"


def test_memory_does_not_grow_with_the_rows(mood: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six times the rows, 2 MB more of input and 1 MB more of answers, in less than 0.3 MB more of memory."""
    monkeypatch.setattr(batch, "WINDOW_ROWS", 100)
    ask: dict[str, Any] = {"task_name": None, "columns": (), "id_column": None, "runtime": FP32}

    def peak(rows: int) -> int:
        source = tmp_path / f"{rows}.txt"
        source.write_text("".join(f"{sentence(i)} {i}\n" for i in range(rows)), encoding="utf-8")
        tracemalloc.start()
        batch.batch_predict(mood, str(source), out=tmp_path / "a.csv", **ask)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(table((tmp_path / "a.csv").read_text())) == rows + 1
        return found

    peak(100)  # what is made once and kept
    small = peak(1000)
    assert peak(6000) - small < 300_000
