"""The model card of an exported model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.deploy.export.conftest import CLOSE
from tests.support.predicting import TASKS
from yourbert.core.storage import write_json
from yourbert.deploy.export.export import export
from yourbert.inference.model_folder import load_model
from yourbert.inference.predict import predict
from yourbert.runtime.machine import Machine
from yourbert.tokens.packing import pack
from yourbert.tokens.tokenizer import Tokenizer

pytestmark = pytest.mark.integration


def test_its_card(mean: Path, machine: Machine, tmp_path: Path) -> None:
    scores = {"sim": {"dev": {"pearson": 0.5, "pearson_low": 0.4, "pearson_high": 0.6}}}
    write_json(tmp_path / "runs" / "all" / "3.json", scores)
    export(mean, tmp_path / "out", "sentence-transformers", "sim", False, machine, tmp_path, tmp_path)
    card = (tmp_path / "out" / "README.md").read_text()
    for line in ("0 + 5 * (1 * cosine + 0)", "sim, dev: pearson 0.500 (0.400 to 0.600)", "a similarity from 0 to 5"):
        assert line in card, line
    assert "1,000 steps over 20,000 tokens; the weights of epoch 2" in card and "lr 0.001" in card


@pytest.mark.parametrize(("target", "name"), [("transformers", "same"), ("onnx", "mood")])
def test_its_code_gives_our_predictions_for_long_texts(
    both: Path, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, name: str
) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("onnxruntime")
    out, long = tmp_path / "out", "good film, was very bad " * 20
    export(both, out, target, name if target == "transformers" else None, False, machine, tmp_path, tmp_path)
    (code,) = re.findall(r"```python\n(.*?)\n```", (out / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(out)
    found: dict[str, Any] = {}
    exec(code.replace("a text", long), found)
    texts = [long, "another"] if TASKS[name].pair else [long]
    expected = predict(load_model(both, machine)[0], name, pack(Tokenizer.load(both), TASKS[name], [texts]), machine)
    answer = found["logits"].softmax(-1).detach().numpy() if target == "transformers" else found["scores"]
    np.testing.assert_allclose(answer, expected, **CLOSE)
