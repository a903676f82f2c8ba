"""What every variant reads: the same weights, the same rows, the same rows to a batch.

Folders that are not there yet are made once below the scratch folder: weights of a shape drawn at random, tokens of a
corpus folder. A peer reads rows that are tokenized already, from memory, so that none is charged for its file format.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.cases import SHAPES, Job
from benchmarks.cost import training_flops
from yourbert.config.params import read_params
from yourbert.config.schema import Params
from yourbert.core.storage import folder_hash, read_json
from yourbert.core.tasks import Split
from yourbert.corpus.rows import SplitRows
from yourbert.tokens.batching import BatchSampler
from yourbert.tokens.packing import PackedSplit, TaskTokens, open_tokens_for
from yourbert.tokens.tokenizer import FILES, Tokenizer

Ints = npt.NDArray[np.int64]
HEAD_WIDTHS = {384: 32, 768: 64}


def weights_of_shape(shape: str, own: Path, scratch: Path) -> Path:
    """The folder of a shape's weights: `own` when it has that shape, else made, with the vocabulary of `own`.

    A shape is a name out of `SHAPES` or "<layers>x<width>".
    """
    layers, width = SHAPES.get(shape) or tuple(int(n) for n in shape.split("x"))
    if (own / "model.safetensors").exists() and _shape_of(own) == (layers, width):
        return own
    vocabulary = Tokenizer.load(own)
    folder = scratch / "weights" / f"{layers}x{width}-{vocabulary.sha256[:12]}"
    if not (folder / FILES[0]).exists():
        _draw(folder, layers, width, vocabulary.vocabulary_size)
        for name in reversed(FILES):
            shutil.copyfile(own / name, folder / name)
    return folder


def _shape_of(folder: Path) -> tuple[int, int]:
    config = read_json(folder / "config.json")
    return config["num_hidden_layers"], config["hidden_size"]


def _draw(folder: Path, layers: int, width: int, vocabulary: int) -> None:
    import torch

    from yourbert.model.encoder import EncoderConfig
    from yourbert.model.pretrained import random_encoder, save_encoder

    config = EncoderConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // HEAD_WIDTHS.get(width, 16),
        intermediate_size=4 * width,
    )
    save_encoder(folder, random_encoder(config, torch.Generator().manual_seed(0)), None)


def as_peers_read(params: Params) -> Params:
    """The parameters under which YourBERT reads as the peers do: pairs in one input, first token, each row once."""
    tasks = {
        name: task.model_copy(
            update={
                "data": task.data.model_copy(update={"encoding": "cross"}),
                **dict.fromkeys(("pooling", "regularizer", "regularizer_weight", "min_steps")),
            }
        )
        for name, task in params.tasks.items()
    }
    return params.model_copy(update={"tasks": tasks, "pooling": "cls", "regularizer": "none"})


def tokens_of_corpus(corpus: Path, own: Path, params: Params, scratch: Path) -> Path:
    """The tokens of a corpus folder, for every task of params.yaml; made again when corpus or vocabulary changes."""
    from yourbert.tokens.tokenize_task import tokenize_task

    key = f"{folder_hash(corpus)[:12]}-{Tokenizer.load(own).sha256[:12]}"
    folder = scratch / "tokens" / key
    for name, task in params.tasks.items():
        if not (folder / name / "task.json").exists():
            tokenize_task(name, task.data, corpus, own, folder / name)
    return folder


def opened(job: Job, task: str) -> TaskTokens:
    return open_tokens_for(Path(job.tokens) / task, Path(job.weights))


def all_sequences(job: Job, max_length: int) -> PackedSplit:
    """What masked-LM training reads: the training rows of every task, as the stage `pretrain` takes them."""
    from yourbert.pretraining.pretrain import sequences

    folders = sorted(p.name for p in Path(job.tokens).iterdir() if p.is_dir())
    splits = [opened(job, name).splits["train"] for name in folders]
    return sequences(splits, iter(()), max_length, Path(tempfile.gettempdir()))


def texts(job: Job, split: Split) -> tuple[list[Sequence[str]], list[float | None]]:
    """The texts and labels of a split's usable rows, in the order of the tokens."""
    data = read_params(Path(job.params)).tasks[job.task].data
    path = Path(job.corpus) / {"train": data.train, "dev": data.dev, "test": data.test or ""}[split]
    rows = list(SplitRows(path, job.task, data, split))
    return [row.texts for row in rows], [row.label for row in rows]


def batches(split: PackedSplit, job: Job, name: str) -> list[Ints]:
    """The rows of each batch of a block, those of the warm-up first: the batches of YourBERT's own training."""
    sampler = BatchSampler(split, job.batch, job.seed, name)
    return [sampler.rows(k) for k in range(job.warmup + job.steps)]


def lengths(split: PackedSplit, chosen: Iterable[Ints]) -> list[int]:
    """The length in tokens of every sequence of the chosen rows."""
    per_row = split.sequences_per_row
    all_lengths = np.diff(np.asarray(split.offsets)).reshape(-1, per_row)
    return np.concatenate([all_lengths[rows].ravel() for rows in chosen]).tolist()  # type: ignore[no-any-return]


def flops(job: Job, lengths_S: Iterable[int]) -> float:
    """Training FLOPs of sequences of these lengths through the job's encoder."""
    from yourbert.model.encoder import EncoderConfig

    return training_flops(EncoderConfig.from_json(read_json(Path(job.weights) / "config.json")), lengths_S)


def examples(split: PackedSplit, rows_B: Ints) -> list[dict[str, Any]]:
    """Rows as a data set for a peer: lists of token and segment ids, and the label where there is one."""
    assert split.sequences_per_row == 1, "the peers read a pair in one input"
    found: list[dict[str, Any]] = []
    for row in rows_B.tolist():
        ids = np.asarray(split.tokens[split.offsets[row] : split.offsets[row + 1]]).tolist()
        second = int(split.second[row])
        example = {"input_ids": ids, "token_type_ids": [0] * second + [1] * (len(ids) - second)}
        if split.labels is not None:
            example["labels"] = split.labels[row].item()
        found.append(example)
    return found
