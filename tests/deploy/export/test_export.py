"""An exported model gives the same logits, vectors and predictions in the other library, to 1e-5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.deploy.export.conftest import CLOSE, PAIRS, TEXTS, ours, rows
from tests.support.predicting import TASKS
from yourbert.core.errors import Problem, UserError
from yourbert.core.storage import check_manifest
from yourbert.deploy.export.export import export
from yourbert.inference.model_folder import load_model
from yourbert.inference.predict import to_device
from yourbert.runtime.machine import Machine
from yourbert.tokens.batching import gather
from yourbert.tokens.packing import pack
from yourbert.tokens.tokenizer import Tokenizer

pytestmark = pytest.mark.integration


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


@pytest.mark.parametrize(
    ("target", "task", "message"),
    [
        ("transformers", "mood", "P05.*uses mean pooling.*sentence-transformers or onnx"),
        ("transformers", "sim", "P05.*encodes the two texts separately"),
        ("transformers", None, "I06.*several tasks.*name one"),
        ("transformers", "moot", "I06.*did you mean 'mood'"),
    ],
)
def test_an_unsupported_model_is_refused(
    mean: Path, target: str, task: str | None, message: str, machine: Machine, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        export(mean, tmp_path / "new" / "out", target, task, False, machine, tmp_path, tmp_path)
    assert not any(tmp_path.iterdir())


def test_an_export_that_fails_leaves_nothing(
    mean: Path, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise UserError([Problem("R07", "no space left on device")])

    monkeypatch.setattr("yourbert.deploy.export.export.write_card", full)
    with pytest.raises(UserError, match="R07"):
        export(mean, tmp_path / "out", "sentence-transformers", "sim", False, machine, tmp_path, tmp_path)
    assert not any(tmp_path.iterdir())
    monkeypatch.undo()
    (tmp_path / "out").mkdir()  # an empty folder may be there
    export(mean, tmp_path / "out", "sentence-transformers", "sim", False, machine, tmp_path, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_existing_folder_is_not_overwritten(mean: Path, machine: Machine, tmp_path: Path) -> None:
    """Least of all the model that is exported."""
    (tmp_path / "file").write_text("mine")
    for out in (mean, tmp_path, tmp_path / "file"):
        with pytest.raises(UserError, match=r"P05.*exists already"):
            export(mean, out, "sentence-transformers", "sim", False, machine, tmp_path, tmp_path)
    check_manifest(mean)
