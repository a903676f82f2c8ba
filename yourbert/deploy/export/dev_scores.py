"""What an ONNX graph scores on dev rows, so that the cost of 8-bit weights is known where they are handed over."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from yourbert.core.tasks import Task
from yourbert.deploy.export.onnx import GRAPH, INPUTS, output_of
from yourbert.evaluation.metrics import score
from yourbert.inference.predict import Numbers, over_rows
from yourbert.runtime.distributed import ALONE
from yourbert.tokens.batching import Batch
from yourbert.tokens.packing import open_tokens


def dev_scores(folder: Path, tasks: Mapping[str, Task], tokens: Path) -> dict[str, float]:
    """The dev score of every task that reads one sequence and whose tokens are there."""
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / GRAPH)
    found = {}
    for name, task in tasks.items():
        if task.sequences_per_row == 1 and (tokens / name / "task.json").is_file():
            split = open_tokens(tokens / name).splits["dev"]
            answers = over_rows(split, partial(_answer, session, output_of(name)), ALONE)
            assert split.labels is not None, "a dev split has labels"
            found[name] = score(task, answers, split.labels)[task.metric]
    return found


def _answer(session: Any, output: str, batch: Batch) -> Numbers:
    (said,) = session.run([output], padded(batch))
    return np.asarray(said)


def padded(batch: Batch) -> dict[str, Any]:
    """The inputs of the graph: the batch's sequences side by side, filled up to the longest."""
    lengths_S = np.diff(batch.offsets)
    real_SL = np.arange(lengths_S.max()) < lengths_S[:, None]
    filled = []
    for values_T in (batch.tokens_T, np.ones_like(batch.tokens_T), batch.segments_T):
        whole_SL = np.zeros(real_SL.shape, np.int64)
        whole_SL[real_SL] = values_T
        filled.append(whole_SL)
    return dict(zip(INPUTS, filled, strict=True))
