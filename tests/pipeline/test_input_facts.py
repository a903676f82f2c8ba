"""Whatever decides a model's input travels: a stranger's tokenizer, length and side of truncation, into every form.

The expected predictions are those of the model for ids that `AutoTokenizer` makes from the stranger's own files.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import yourbert
from tests.download.test_tokenizer_files import NAMES, OBEYED, SIZE, completed, write
from tests.support import tiny
from tests.support.odd_texts import odd_texts
from tests.support.predicting import TASKS as SHORT
from yourbert.config.schema import Runtime
from yourbert.core.errors import UserError
from yourbert.core.storage import read_json
from yourbert.core.tasks import Task
from yourbert.deploy.batch import batch_predict
from yourbert.deploy.export.export import export
from yourbert.deploy.serve.model import ServedModel
from yourbert.inference.model_folder import load_model, save_model
from yourbert.inference.predict import predict, predict_texts
from yourbert.model.multitask import Model
from yourbert.model.pretrained import random_encoder
from yourbert.runtime.machine import Machine, prepare
from yourbert.tokens.packing import PackedSplit
from yourbert.tokens.tokenizer import Tokenizer

pytestmark = pytest.mark.integration

Row = tuple[str, ...]
RUNTIME = Runtime(device="cpu", precision="fp32", num_threads=1, deterministic=False)
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}
# The kinds of files of a stranger's tokenizer, and the side on which long texts are cut.
FACTS = {
    "usual": ("uncased", "right"),
    "cased": ("cased", "left"),
    "accents": ("accents are kept", "right"),
    "Chinese": ("no spaces around Chinese", "left"),
    "added tokens": ("added in both, cased", "right"),
    "special tokens": ("special tokens of other kinds", "left"),
    "middle": ("single words", "middle"),
}
TASKS = {
    "mood": replace(SHORT["mood"], max_length=12),
    "tone": replace(SHORT["mood"], name="tone", max_length=9),
    "same": replace(SHORT["same"], max_length=14),
    "sim": replace(SHORT["sim"], max_length=11),
}


def long_texts() -> list[str]:
    """Texts of odd characters, most of which have many times the tokens that a model reads."""
    odd = [text for text in odd_texts(400, NAMES) if text.strip() and "\0" not in text and "\n" not in text]
    return [" ".join(odd[n : n + 1 + n % 9]) for n in range(0, 180, 4)]


def rows(task: Task) -> list[Row]:
    texts = long_texts()
    return list(zip(texts, reversed(texts), strict=True)) if task.pair else [(text,) for text in texts]


def cut(ids: list[int], room: int, side: str) -> list[int]:
    head = {"right": room, "left": 0, "middle": -(-room // 2)}[side]
    return ids if len(ids) <= room else ids[:head] + ids[len(ids) - (room - head) :]


def sequences(theirs: Any, task: Task) -> PackedSplit:
    """The input of a task by the rules of the other library, which has no side "middle"."""
    ids, second = [], []
    pairs = rows(task)
    for row in pairs if task.sequences_per_row == 1 else [(text,) for pair in pairs for text in pair]:
        room = theirs(*([text] for text in row), truncation=True, max_length=task.max_length)["token_type_ids"][0]
        kept = [room.count(0) - 2, room.count(1) - 1][: len(row)]
        whole = [theirs(text, add_special_tokens=False)["input_ids"] for text in row]
        parts = [[*cut(one, n, task.truncation_side), theirs.sep_token_id] for one, n in zip(whole, kept, strict=True)]
        ids.append([theirs.cls_token_id, *itertools.chain(*parts)])
        second.append(1 + len(parts[0]))
    offsets = np.cumsum([0, *map(len, ids)])
    return PackedSplit(
        tokens=np.concatenate(ids),
        offsets=offsets,
        second=np.asarray(second),
        labels=None,
        sequences_per_row=task.sequences_per_row,
    )


def made(place: Path, fact: str) -> tuple[Path, dict[str, Task], dict[str, Any]]:
    """A model folder on a stranger's tokenizer, its tasks, and what it should predict."""
    transformers = pytest.importorskip("transformers")
    kind, side = FACTS[fact]
    place.mkdir(exist_ok=True)
    theirs = transformers.AutoTokenizer.from_pretrained(write(place / "theirs", OBEYED[kind]))
    base, rng = completed(place / "base", OBEYED[kind]), torch.Generator().manual_seed(2)
    tasks = {name: replace(task, truncation_side=side) for name, task in TASKS.items()}
    encoder = random_encoder(replace(tiny.CONFIG, vocab_size=SIZE + 5), rng)
    pooling: Any = {"mood": "mean", "tone": "cls", "same": "cls", "sim": "mean"}
    model = Model(encoder, tasks.values(), "mean", 0.0, rng, pooling).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():  # predictions that differ from row to row
            parameter.mul_((20 if "heads" in name else 5) if parameter.ndim > 1 else 1)
    about = {
        "run": "all", "seed": 3, "training": {}, "encoder": "", "tokens": {},
        "outcome": {"steps": 1, "tokens": 1, "best_epoch": 1},
    }  # fmt: skip
    save_model(place / "model", model, tasks, base, about)
    expected = {n: predict(model, n, sequences(theirs, task), prepare(RUNTIME)) for n, task in tasks.items()}
    assert all(np.std(numbers, axis=0).max() > 0.01 for numbers in expected.values()), expected
    return place / "model", tasks, expected


def values(task: Task, predictions: Sequence[Any]) -> Any:
    """The numbers in predictions as JSON."""
    if task.kind == "similarity":
        return np.asarray([one["prediction"] for one in predictions])
    return np.asarray([[one["probabilities"][label] for label in task.labels] for one in predictions])


def of_the_folder(folder: Path, task: Task, machine: Machine, work: Path) -> Any:
    return predict_texts(load_model(folder, machine)[0], task, Tokenizer.load(folder), rows(task), machine)[0]


def loaded(folder: Path, task: Task, machine: Machine, work: Path) -> Any:
    model = yourbert.load(folder, device="cpu", precision="fp32", num_threads=1)
    found = model.predict([row if task.pair else row[0] for row in rows(task)], task.name)
    if task.kind == "similarity":
        return np.asarray([one.value for one in found])
    return values(task, [{"probabilities": one.probabilities} for one in found])


def of_predict(folder: Path, task: Task, machine: Machine, work: Path) -> Any:
    lines = [
        json.dumps({"id": str(n), **dict(zip(task.columns, row, strict=True))}) for n, row in enumerate(rows(task))
    ]
    (work / "in.jsonl").write_text("\n".join(lines) + "\n")
    settings: dict[str, Any] = {"columns": (), "id_column": "id", "runtime": RUNTIME}
    batch_predict(folder, str(work / "in.jsonl"), task_name=task.name, out=work / "out.jsonl", **settings)
    return values(task, [json.loads(line) for line in (work / "out.jsonl").read_text().splitlines()])


def served(folder: Path, task: Task, machine: Machine, work: Path) -> Any:
    return values(task, ServedModel(folder, machine).predict(task.name, rows(task)))


def softmax(logits: Any) -> Any:
    return torch.from_numpy(np.asarray(logits)).softmax(-1).numpy()


def in_transformers(folder: Path, task: Task, machine: Machine, work: Path) -> Any:
    transformers = pytest.importorskip("transformers")
    export(folder, work / "out", "transformers", task.name, False, machine, work, work)
    tokenizer = transformers.AutoTokenizer.from_pretrained(work / "out")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(work / "out").eval()
    texts = map(list, zip(*rows(task), strict=True))
    with torch.no_grad():
        logits = model(**tokenizer(*texts, return_tensors="pt", padding=True, truncation=True)).logits
    return softmax(logits.numpy())


def in_sentence_transformers(folder: Path, task: Task, machine: Machine, work: Path) -> Any:
    library = pytest.importorskip("sentence_transformers")
    export(folder, work / "out", "sentence-transformers", task.name, False, machine, work, work)
    model = library.SentenceTransformer(str(work / "out"), device="cpu")
    sides = [model.encode(list(texts)) for texts in zip(*rows(task), strict=True)]
    if not task.pair:
        return softmax(sides[0])
    cosine = torch.cosine_similarity(*map(torch.from_numpy, sides)).clamp(0, 1).numpy()
    return task.low + (task.high - task.low) * cosine


def as_onnx(folder: Path, task: Task, machine: Machine, work: Path) -> Any:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    transformers = pytest.importorskip("transformers")
    if not (work / "out").exists():
        export(folder, work / "out", "onnx", None, False, machine, work, work)
    about = read_json(work / "out" / "tasks.json")[task.name]
    settings = {"model_max_length": about["max_length"], "truncation_side": about["truncation_side"]}
    tokenizer = transformers.AutoTokenizer.from_pretrained(work / "out", **settings)
    session = runtime.InferenceSession(work / "out" / "model.onnx")

    def run(*texts: Sequence[str]) -> Any:
        read = dict(tokenizer(*map(list, texts), return_tensors="np", padding=True, truncation=True))
        return session.run([about.get("reads", about["output"])], read)[0]

    sides = list(zip(*rows(task), strict=True))
    if task.sequences_per_row == 1:
        return run(*sides)
    pair = runtime.InferenceSession(work / "out" / about["graph"])
    return pair.run(None, {"first": run(sides[0]), "second": run(sides[1])})[0]


NATIVE = (of_the_folder, loaded, of_predict, served)
EXPORTS: dict[Callable[..., Any], tuple[str, ...]] = {
    in_transformers: ("tone", "same"),
    in_sentence_transformers: ("mood", "sim"),
    as_onnx: ("mood", "same", "sim", "tone"),
}


@pytest.mark.parametrize("fact", FACTS)
def test_it_decides_the_predictions_of_every_form(tmp_path: Path, fact: str) -> None:
    machine = prepare(RUNTIME)
    folder, tasks, expected = made(tmp_path, fact)
    for form in NATIVE:
        for name, task in tasks.items():
            np.testing.assert_allclose(form(folder, task, machine, tmp_path), expected[name], **CLOSE, err_msg=name)
    for form, names in EXPORTS.items():
        for name in names:
            work = tmp_path / (form.__name__ if form is as_onnx else f"{form.__name__} {name}")
            work.mkdir(exist_ok=True)
            if FACTS[fact][1] == "middle":
                with pytest.raises(UserError, match=r"P05.*cuts long texts in the middle.*yourbert serve"):
                    form(folder, tasks[name], machine, work)
                assert not any(work.iterdir())
                continue
            found = form(folder, tasks[name], machine, work)
            np.testing.assert_allclose(found, expected[name], **CLOSE, err_msg=f"{form.__name__} {name}")
            assert modes(work / "out") == {(False, 1)}


def modes(folder: Path) -> set[tuple[bool, int]]:
    """Of the files: whether the owner cannot write it, and its number of names."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert not any(path.is_symlink() for path in files)
    return {(not path.stat().st_mode & 0o200, path.stat().st_nlink) for path in files}
