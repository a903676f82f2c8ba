"""ONNX: the same predictions in fp32, and almost the same in 8 bits."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.deploy.export.conftest import CLOSE, PAIRS, TEXTS, ours
from yourbert.core.storage import read_json
from yourbert.deploy.export.export import export
from yourbert.deploy.export.onnx import quantize
from yourbert.runtime.machine import Machine

pytestmark = pytest.mark.integration


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
    (scores,) = pair.run(None, {"first": vectors[0], "second": vectors[1]})
    np.testing.assert_allclose(scores, ours(folder, "sim", machine), **CLOSE)


@pytest.mark.slow
def test_8_bit_weights_are_smaller_and_almost_as_exact(mean: Path, machine: Machine, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    onnx = pytest.importorskip("onnx")
    export(mean, tmp_path / "whole", "onnx", None, False, machine, tmp_path, tmp_path)
    shutil.copytree(tmp_path / "whole", tmp_path / "small")
    quantize(tmp_path / "small" / "model.onnx")
    sizes = [(tmp_path / name / "model.onnx").stat().st_size for name in ("whole", "small")]
    assert sizes[1] < sizes[0]
    tables = [t for t in onnx.load(tmp_path / "small" / "model.onnx").graph.initializer if "embeddings.word" in t.name]
    assert [t.data_type for t in tables if len(t.dims) == 2] == [onnx.TensorProto.UINT8]
    ids = np.array([[2, 8, 9, 3]])
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    sessions = [runtime.InferenceSession(tmp_path / name / "model.onnx") for name in ("whole", "small")]
    whole, small = (session.run(["scores of mood"], inputs)[0] for session in sessions)
    np.testing.assert_allclose(whole, small, atol=0.05)
