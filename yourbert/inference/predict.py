"""Model and rows in, scores out: rows of like length share a batch, and the order of the rows is restored.

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
from yourbert.tokens.packing import PackedSplit, encode_rows, packed
from yourbert.tokens.tokenizer import Tokenizer

TOKENS_PER_BATCH = 4096
Numbers = npt.NDArray[np.float32]


def to_device(batch: Batch, machine: Machine) -> Packed:
    return Packed.from_numpy(batch.tokens_T, batch.segments_T, batch.positions_T, batch.offsets, machine.device)


def predict(model: Model, task: str, split: PackedSplit, machine: Machine) -> Numbers:
    """What the model answers for every row: probabilities_RC of a classification, values_R of a similarity."""
    head = model.heads[task]

    def answer(batch: Batch) -> Numbers:
        return _numbers(head.predict(model(task, to_device(batch, machine), None)))

    assert not model.training, "rows are answered by a model in evaluation mode"
    return over_rows(split, answer, machine.ranks)


def predict_texts(
    model: Model, task: Task, tokenizer: Tokenizer, texts: Sequence[Sequence[str]], machine: Machine
) -> tuple[Numbers, npt.NDArray[np.bool_]]:
    """The same for rows of texts, at least one, and which sequences, [S], were cut at the task's length."""
    encoded = encode_rows(tokenizer, task, texts)
    return predict(model, task.name, packed(task, encoded), machine), encoded.uncut_S > task.max_length


def predict_from_features(model: Model, task: str, features_SE: Tensor) -> Numbers:
    """The same from features that `features_of` made once."""
    with torch.inference_mode():
        scores = model.scores_of_features(task, features_SE, None)
        return _numbers(model.heads[task].predict(scores))


def features_of(model: Model, task: str, split: PackedSplit, machine: Machine) -> Tensor:
    """The encoder's vector of every sequence as a task reads it, in the order of the split: features_SE.

    Without dropout, whatever mode the model is in.
    """
    width = split.sequences_per_row

    def features(batch: Batch) -> Numbers:
        return _numbers(model.features(task, to_device(batch, machine)).reshape(len(batch.rows_B), -1))

    rows_features = over_rows(split, features, machine.ranks)
    return torch.from_numpy(rows_features.reshape(len(split) * width, -1)).to(machine.device)


@torch.inference_mode()
def over_rows(split: PackedSplit, answer: Callable[[Batch], Numbers], ranks: Ranks) -> Numbers:
    """A line of numbers for each row, in their order. Each rank answers every `world`-th batch, and all get all.

    The first batch tells each how many numbers a row has.
    """
    answers: Numbers | None = None
    for turn, batch in enumerate(length_sorted_batches(split, TOKENS_PER_BATCH)):
        mine = turn % ranks.world == ranks.rank
        if mine or answers is None:
            found = answer(batch)
            answers = np.zeros((len(split), *found.shape[1:]), np.float32) if answers is None else answers
            answers[batch.rows_B] = found if mine else 0
    assert answers is not None, "a split has rows"
    return ranks.sum(answers)


def _numbers(scores: Tensor) -> Numbers:
    return scores.float().cpu().numpy()
