"""Model and rows in, predictions out. Batches have rows of similar length; the output has the order of the rows.

Shapes: R rows of a split, C classes, S sequences, E hidden width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from yourbert.core.tasks import Task
from yourbert.model.attention import Packed
from yourbert.model.multitask import Model
from yourbert.runtime.distributed import Ranks
from yourbert.runtime.machine import Machine
from yourbert.tokens.batching import Batch, length_sorted_batches
from yourbert.tokens.packing import PackedSplit, encode_rows, pack_encoded
from yourbert.tokens.tokenizer import Tokenizer

TOKENS_PER_BATCH = 4096
Numbers = npt.NDArray[np.float32]


def to_device(batch: Batch, machine: Machine) -> Packed:
    return Packed.from_numpy(batch.tokens_T, batch.segments_T, batch.positions_T, batch.offsets, machine.device)


def predict(model: Model, task: str, split: PackedSplit, machine: Machine) -> Numbers:
    """The model's output for every row: probabilities_RC for a classification, values_R for a similarity."""
    head = model.heads[task]

    def compute(batch: Batch) -> Numbers:
        return _to_numpy(head.predict(model(task, to_device(batch, machine), None)))

    assert not model.training, "predictions need evaluation mode"
    return map_rows(split, compute, machine.ranks)


def predict_texts(
    model: Model, task: Task, tokenizer: Tokenizer, texts: Sequence[Sequence[str]], machine: Machine
) -> tuple[Numbers, npt.NDArray[np.bool_]]:
    """`predict` for one or more rows of texts; also returns which sequences, [S], were truncated."""
    encoded = encode_rows(tokenizer, task, texts)
    return predict(model, task.name, pack_encoded(task, encoded), machine), encoded.full_lengths_S > task.max_length


def predict_from_features(model: Model, task: str, features_SE: Tensor) -> Numbers:
    """`predict` from cached features of a frozen encoder, as `compute_features` gives them."""
    with torch.inference_mode():
        scores = model.scores_of_features(task, features_SE, None)
        return _to_numpy(model.heads[task].predict(scores))


def compute_features(model: Model, task: str, split: PackedSplit, machine: Machine) -> Tensor:
    """The encoder's pooled vector of every sequence, features_SE, in the order of the split and without dropout."""
    width = split.sequences_per_row

    def features(batch: Batch) -> Numbers:
        return _to_numpy(model.features(task, to_device(batch, machine)).reshape(len(batch.rows_B), -1))

    features_R = map_rows(split, features, machine.ranks)
    return torch.from_numpy(features_R.reshape(len(split) * width, -1)).to(machine.device)


@torch.inference_mode()
def map_rows(split: PackedSplit, compute: Callable[[Batch], Numbers], ranks: Ranks) -> Numbers:
    """Applies `compute` to batches: [B] or [B, N] each -> [R] or [R, N] in the order of the rows.

    Each rank computes every `world`-th batch; all ranks get all results.
    """
    outputs: Numbers | None = None
    for turn, batch in enumerate(length_sorted_batches(split, TOKENS_PER_BATCH)):
        mine = turn % ranks.world == ranks.rank
        if mine or outputs is None:  # every rank computes the first batch, for the shape of the output
            of_batch = compute(batch)
            outputs = np.zeros((len(split), *of_batch.shape[1:]), np.float32) if outputs is None else outputs
            outputs[batch.rows_B] = of_batch if mine else 0
    assert outputs is not None, "a split has rows"
    return ranks.sum(outputs)  # each row is nonzero on one rank


def _to_numpy(scores: Tensor) -> Numbers:
    return scores.float().cpu().numpy()
