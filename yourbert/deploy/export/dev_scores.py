"""Scores of an ONNX graph on dev rows, so that the model card can state the cost of 8-bit weights."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from yourbert.core.tasks import Task
from yourbert.deploy.export.onnx import GRAPH, INPUTS, output_of
from yourbert.evaluation.metrics import score
from yourbert.inference.predict import Numbers, map_rows
from yourbert.runtime.distributed import ALONE
from yourbert.tokens.batching import Batch
from yourbert.tokens.packing import open_tokens


def dev_scores(folder: Path, tasks: Mapping[str, Task], tokens: Path) -> dict[str, float]:
    """Task -> dev score, for tasks with one sequence per row whose tokens exist. folder: an export with model.onnx."""
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / GRAPH)
    scores = {}
    for name, task in tasks.items():
        if task.sequences_per_row == 1 and (tokens / name / "task.json").is_file():
            split = open_tokens(tokens / name).splits["dev"]
            outputs = map_rows(split, partial(_run, session, output_of(name)), ALONE)
            assert split.labels is not None, "a dev split has labels"
            scores[name] = score(task, outputs, split.labels)[task.metric]
    return scores


def _run(session: Any, output: str, batch: Batch) -> Numbers:
    (scores,) = session.run([output], pad_batch(batch))
    return np.asarray(scores)


def pad_batch(batch: Batch) -> dict[str, Any]:
    """The inputs of the graph, int64 [S, L]: S sequences padded to the length L of the longest."""
    lengths_S = np.diff(batch.offsets)
    mask_SL = np.arange(lengths_S.max()) < lengths_S[:, None]
    inputs = []
    for values_T in (batch.tokens_T, np.ones_like(batch.tokens_T), batch.segments_T):
        padded_SL = np.zeros(mask_SL.shape, np.int64)
        padded_SL[mask_SL] = values_T
        inputs.append(padded_SL)
    return dict(zip(INPUTS, inputs, strict=True))
