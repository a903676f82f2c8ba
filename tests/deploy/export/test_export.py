"""A model in another library's hands says what it says in ours: the same logits, vectors and answers, to 1e-5."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.deploy.test_batch import TASKS
from tests.support import tiny
from tests.tokens.test_tokenizer import write_base
from yourbert.config.schema import Runtime
from yourbert.core.errors import UserError
from yourbert.core.storage import check_manifest, read_json, write_json
from yourbert.core.tasks import Pooling
from yourbert.deploy.export.export import export
from yourbert.deploy.export.onnx import quantize
from yourbert.inference.model_folder import load_model, save_model
from yourbert.inference.predict import predict, to_device
from yourbert.model.encoder import initialise
from yourbert.model.multitask import Model
from yourbert.model.pretrained import random_encoder
from yourbert.runtime.machine import Machine, prepare
from yourbert.tokens.batching import gather
from yourbert.tokens.packing import pack
from yourbert.tokens.tokenizer import Tokenizer

TEXTS = ["good film", "was very bad, notgoodly", "a b c d e f g h a b c d e f g h a b", "\u4e2d !", "film"]
# Of a pair that is too long their tokenizer may take the odd token from the other text, so none is.
SHORT = [text for text in TEXTS if len(text) < 30]
PAIRS = [*zip(SHORT, SHORT[1:] + SHORT[:1], strict=True)]
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}
MACHINE = prepare(Runtime(device="cpu", precision="fp32", threads=1, deterministic=False))
FACTS: dict[str, Any] = {
    "run": "all", "seed": 3, "training": {"lr": 0.001}, "encoder": "abc", "tokens": {"mood": "def"},
    "outcome": {"steps": 1000, "tokens": 20000, "best_epoch": 2, "parameters": 30},
}  # fmt: skip


@pytest.fixture
def machine() -> Machine:
    return MACHINE


def made(place: Path, pooling: Pooling, poolings: dict[str, Pooling] | None = None) -> Path:
    """A model with every kind of head, whose answers differ from row to row."""
    base, rng = write_base(place / "base"), torch.Generator().manual_seed(2)
    size = len((base / "vocab.txt").read_text(encoding="utf-8").splitlines())
    encoder = random_encoder(replace(tiny.CONFIG, vocab_size=size), rng)
    model = Model(encoder, TASKS.values(), pooling, 0.0, rng, poolings, dict.fromkeys(poolings or {}, 1))
    with torch.no_grad():
        for name in model.own_layers:
            initialise(model.heads[name].layers, rng)
        for parameter in model.heads.parameters():
            parameter.mul_(20 if parameter.ndim > 1 else 1)
    save_model(place / "model", model, TASKS, base, FACTS)
    return place / "model"


@pytest.fixture(scope="module")
def mean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It reads the mean of all tokens."""
    return made(tmp_path_factory.mktemp("mean"), "mean")


@pytest.fixture(scope="module")
def cls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It reads the pooled first token."""
    return made(tmp_path_factory.mktemp("cls"), "cls")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pair in one input reads the first token from a last layer of its own, the other tasks the mean."""
    return made(tmp_path_factory.mktemp("both"), "mean", {"same": "cls"})


def rows(name: str) -> list[Sequence[str]]:
    return [[text] for text in TEXTS] if not TASKS[name].pair else list(PAIRS)


def ours(folder: Path, name: str, machine: Machine) -> Any:
    model, _ = load_model(folder, machine)
    return predict(model, name, pack(Tokenizer.load(folder), TASKS[name], rows(name)), machine)


def logits(folder: Path, name: str, machine: Machine) -> Any:
    model, _ = load_model(folder, machine)
    split = pack(Tokenizer.load(folder), TASKS[name], rows(name))
    with torch.no_grad():
        return model(name, to_device(gather(split, np.arange(len(split))), machine), None).numpy()


@pytest.mark.parametrize(("reads", "name"), [("cls", "mood"), ("cls", "same"), ("both", "same")])
def test_in_transformers(
    request: pytest.FixtureRequest, reads: str, name: str, machine: Machine, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    folder = request.getfixturevalue(reads)
    export(folder, tmp_path / "out", "transformers", name, False, machine, tmp_path, tmp_path)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    texts = list(zip(*rows(name), strict=True))
    read = tokenizer(*map(list, texts), return_tensors="pt", padding=True, truncation=True)
    with torch.no_grad():
        np.testing.assert_allclose(model(**read).logits.numpy(), logits(folder, name, machine), **CLOSE)
    assert [model.config.id2label[number] for number in range(len(TASKS[name].labels))] == [*TASKS[name].labels]


def test_in_sentence_transformers(mean: Path, machine: Machine, tmp_path: Path) -> None:
    """Of a similarity the cosine of its vectors; of a classification its logits."""
    library = pytest.importorskip("sentence_transformers")
    export(mean, tmp_path / "sim", "sentence-transformers", "sim", False, machine, tmp_path, tmp_path)
    model = library.SentenceTransformer(str(tmp_path / "sim"), device="cpu")
    first, second = (torch.from_numpy(model.encode([pair[side] for pair in PAIRS])) for side in (0, 1))
    task = TASKS["sim"]
    cosine = torch.cosine_similarity(first, second).clamp(0, 1).numpy()
    np.testing.assert_allclose(task.low + (task.high - task.low) * cosine, ours(mean, "sim", machine), **CLOSE)
    export(mean, tmp_path / "mood", "sentence-transformers", "mood", False, machine, tmp_path, tmp_path)
    model = library.SentenceTransformer(str(tmp_path / "mood"), device="cpu")
    np.testing.assert_allclose(model.encode(TEXTS), logits(mean, "mood", machine), **CLOSE)


@pytest.mark.parametrize("pooling", ["mean", "cls", "both"])
def test_as_onnx(request: pytest.FixtureRequest, pooling: str, machine: Machine, tmp_path: Path) -> None:
    """All tasks of one graph, in a padded batch; those that compare two texts by a graph of their own."""
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    transformers = pytest.importorskip("transformers")
    folder = request.getfixturevalue(pooling)
    export(folder, tmp_path / "out", "onnx", None, False, machine, tmp_path, tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    session = runtime.InferenceSession(tmp_path / "out" / "model.onnx")

    def run(*texts: Sequence[str]) -> dict[str, Any]:
        read = tokenizer(*map(list, texts), return_tensors="np", padding=True, truncation=True)
        names = [output.name for output in session.get_outputs()]
        inputs = {key: value.astype(np.int64) for key, value in read.items()}
        return dict(zip(names, session.run(None, inputs), strict=True))

    about = read_json(tmp_path / "out" / "tasks.json")
    np.testing.assert_allclose(run(TEXTS)[about["mood"]["output"]], ours(folder, "mood", machine), **CLOSE)
    first, second = ([pair[side] for pair in PAIRS] for side in (0, 1))
    np.testing.assert_allclose(run(first, second)[about["same"]["output"]], ours(folder, "same", machine), **CLOSE)
    vectors = [run(texts)[about["sim"]["reads"]] for texts in (first, second)]
    pair = runtime.InferenceSession(tmp_path / "out" / about["sim"]["graph"])
    (said,) = pair.run(None, {"first": vectors[0], "second": vectors[1]})
    np.testing.assert_allclose(said, ours(folder, "sim", machine), **CLOSE)


@pytest.mark.slow
def test_in_eight_bits_it_is_smaller_and_says_almost_the_same(mean: Path, machine: Machine, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    export(mean, tmp_path / "whole", "onnx", None, False, machine, tmp_path, tmp_path)
    shutil.copytree(tmp_path / "whole", tmp_path / "small")
    quantize(tmp_path / "small" / "model.onnx")
    sizes = [(tmp_path / name / "model.onnx").stat().st_size for name in ("whole", "small")]
    assert sizes[1] < sizes[0]
    ids = np.array([[2, 8, 9, 3]])
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    sessions = [runtime.InferenceSession(tmp_path / name / "model.onnx") for name in ("whole", "small")]
    whole, small = (session.run(["scores of mood"], inputs)[0] for session in sessions)
    np.testing.assert_allclose(whole, small, atol=0.05)


@pytest.mark.parametrize(
    ("form", "task", "says"),
    [
        ("transformers", "mood", "P05.*reads the mean of all tokens.*sentence-transformers or onnx"),
        ("transformers", "sim", "P05.*reads its texts apart"),
        ("transformers", None, "I06.*which of them"),
        ("transformers", "moot", "I06.*did you mean 'mood'"),
    ],
)
def test_what_a_form_cannot_say(
    mean: Path, form: str, task: str | None, says: str, machine: Machine, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=says):
        export(mean, tmp_path / "out", form, task, False, machine, tmp_path, tmp_path)
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_not_overwritten(mean: Path, machine: Machine, tmp_path: Path) -> None:
    """Least of all the model that is exported."""
    (tmp_path / "file").write_text("mine")
    for out in (mean, tmp_path, tmp_path / "file"):
        with pytest.raises(UserError, match=r"P05.*there already"):
            export(mean, out, "sentence-transformers", "sim", False, machine, tmp_path, tmp_path)
    check_manifest(mean)


def test_its_card(mean: Path, machine: Machine, tmp_path: Path) -> None:
    scores = {"sim": {"dev": {"pearson": 0.5, "pearson_low": 0.4, "pearson_high": 0.6}}}
    write_json(tmp_path / "runs" / "all" / "3.json", scores)
    export(mean, tmp_path / "out", "sentence-transformers", "sim", False, machine, tmp_path, tmp_path)
    card = (tmp_path / "out" / "README.md").read_text()
    for said in ("0 + 5 * (1 * cosine + 0)", "sim, dev: pearson 0.500 (0.400 to 0.600)", "a similarity from 0 to 5"):
        assert said in card, said
    assert "1,000 steps over 20,000 tokens; the weights of epoch 2" in card and "lr 0.001" in card
