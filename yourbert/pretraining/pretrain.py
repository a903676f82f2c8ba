"""Masked-language-model training on the texts of the tasks, before fine-tuning (Gururangan et al. 2020).

The training sequences are the tokenized training rows of the tasks and, optionally, passages of additional text. The
dev score is the accuracy on the dev rows of the tasks, with a mask that is always the same.
Shapes: T tokens, S sequences.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yourbert.config.schema import Pretrain, Runtime, Training
from yourbert.core.cost import Cost
from yourbert.core.passages import read_passages
from yourbert.core.paths import located
from yourbert.core.storage import folder_hash, link_or_copy, read_array, scratch, write_json, write_manifest
from yourbert.core.text import chunked
from yourbert.model.encoder import Encoder
from yourbert.model.heads import MlmHead
from yourbert.model.pretrained import load_encoder, save_encoder
from yourbert.pretraining.learner import NAME, MlmLearner, MlmModel
from yourbert.pretraining.masking import Masking
from yourbert.runtime.distributed import here
from yourbert.runtime.machine import Machine, generator, prepare
from yourbert.tokens.packing import PackedSplit, growing_arrays, open_tokens_for
from yourbert.tokens.tokenizer import FILES, Tokenizer
from yourbert.training.checkpoint import Resume, resume_folder
from yourbert.training.fused import fusion
from yourbert.training.history import TrainingHistory
from yourbert.training.loop import EagerStepper, begin, train

# The code that determines the result: the folders that dvc.yaml lists for `pretrain`.
CODE = ("core", "config", "tokens", "model", "runtime", "inference", "training", "pretraining")
# The size of a chunk in memory: sequences, and numbers of an array.
SEQUENCES_AT_ONCE = 4096
NUMBERS_AT_ONCE = 1 << 20
DTYPES = {"tokens": "<i4", "offsets": "<i8", "second": "<i4"}


def make_masking(tokenizer: Tokenizer, settings: Pretrain) -> Masking:
    """The masking rule for a vocabulary and the settings."""
    special_ids = np.asarray(tokenizer.special_ids, dtype=np.int64)
    return Masking(settings.mlm_probability, tokenizer.mask_id, special_ids, tokenizer.vocabulary_size)


def sequences(
    splits: Sequence[PackedSplit],
    texts: Iterator[npt.NDArray[np.int64]],
    max_length: int,
    work: Path,
) -> PackedSplit:
    """All sequences of the splits and the tokenized texts as one split, with one sequence per row.

    A sequence longer than `max_length` is split into parts of at most that many tokens, so no text is lost. The arrays
    are memory-mapped from files below `work`. These are unlinked before this returns, and vanish with the process.
    """
    with scratch(work) as folder:
        end = 0
        with growing_arrays(folder, DTYPES) as arrays:
            arrays["offsets"].append(np.zeros(1, dtype=np.int64))
            for tokens_T, lengths_S, second_S in chain(_split_long(splits, max_length), _concatenated(texts)):
                ends_S = np.cumsum(lengths_S) + end
                end = int(ends_S[-1])
                arrays["tokens"].append(tokens_T)
                arrays["offsets"].append(ends_S)
                arrays["second"].append(second_S)
        tokens, offsets, second = (read_array(folder / f"{array}.npy") for array in DTYPES)
    return PackedSplit(tokens=tokens, offsets=offsets, second=second, labels=None, sequences_per_row=1)


SequenceArrays = tuple[npt.NDArray[Any], npt.NDArray[np.int64], npt.NDArray[np.int64]]  # tokens_T, lengths_S, second_S


def _split_long(splits: Sequence[PackedSplit], max_length: int) -> Iterator[SequenceArrays]:
    """The sequences of the splits; one longer than `max_length` becomes several, with the same tokens."""
    for split in splits:
        for start in range(0, split.n_sequences, SEQUENCES_AT_ONCE):
            bounds = np.asarray(split.offsets[start : start + SEQUENCES_AT_ONCE + 1])
            lengths_S = np.diff(bounds)
            parts_S = -(-lengths_S // max_length)  # [S]; the arrays below have an entry per part, [sum of parts_S]
            sequence = np.repeat(np.arange(len(lengths_S)), parts_S)
            start_in_sequence = (
                np.arange(len(sequence)) - np.repeat(np.cumsum(parts_S) - parts_S, parts_S)
            ) * max_length
            lengths = np.minimum(lengths_S[sequence] - start_in_sequence, max_length)
            second = np.asarray(split.second[start : start + SEQUENCES_AT_ONCE], dtype=np.int64)[sequence]
            yield split.tokens[bounds[0] : bounds[-1]], lengths, np.clip(second - start_in_sequence, 0, lengths)


def _concatenated(texts: Iterator[npt.NDArray[np.int64]]) -> Iterator[SequenceArrays]:
    for chunk in chunked(texts, SEQUENCES_AT_ONCE, NUMBERS_AT_ONCE, len):
        lengths = np.array([len(sequence) for sequence in chunk])
        yield np.concatenate(chunk), lengths, lengths


def content_hash(array: npt.NDArray[Any]) -> str:
    """The sha256 of the bytes of an array, which is read in parts."""
    digest = hashlib.sha256()
    for start in range(0, len(array), NUMBERS_AT_ONCE):
        digest.update(array[start : start + NUMBERS_AT_ONCE].tobytes())
    return digest.hexdigest()


def read_texts(path: Path, tokenizer: Tokenizer, max_length: int) -> Iterator[npt.NDArray[np.int64]]:
    """The passages of `read_passages` as token sequences. Raises UserError as that does."""
    yield from _encode(read_passages(path), tokenizer, max_length)


def _encode(lines: Iterable[str], tokenizer: Tokenizer, max_length: int) -> Iterator[npt.NDArray[np.int64]]:
    """Each line as [CLS] ... [SEP]; a long line as several such sequences."""
    room = max_length - 2
    for ids in tokenizer.word_piece_ids(lines):
        for start in range(0, len(ids), room):
            part = ids[start : start + room]
            yield np.asarray([tokenizer.cls_id, *part, tokenizer.sep_id], dtype=np.int64)


def pretrain(
    settings: Pretrain,
    schedule: Training,
    runtime: Runtime,
    seed: int,
    base: Path,
    tokens: Path,
    out: Path,
    metrics: Path,
    cost: Path,
) -> None:
    """Trains `base` on the texts of the tasks and writes the encoder folder `out`, metrics and cost.

    If pretraining is disabled, `out` has the files of `base`. An interrupted run resumes from its last saved step.
    Raises UserError: C01 or C05 (tokens and base do not belong together), P15, D29 or D08 (the extra text), T01, R08.
    """
    if not settings.enabled:
        if not here().leads:
            return
        for path in sorted(p for p in base.iterdir() if p.is_file()):
            link_or_copy(path, out / path.name)
        write_json(metrics, {"enabled": 0, "rows": 0, "steps": 0, "tokens": 0})
        write_json(cost, Cost().to_json())
        return
    machine = prepare(runtime, here())
    tokenizer = Tokenizer.load(base)
    extra = settings.extra_text
    texts = read_texts(located(extra), tokenizer, settings.max_length) if extra else iter(())
    tasks = [open_tokens_for(folder, base) for folder in sorted(tokens.iterdir()) if folder.is_dir()]
    out.parent.mkdir(parents=True, exist_ok=True)
    train_rows = sequences([t.splits["train"] for t in tasks], texts, settings.max_length, out.parent)
    dev_rows = sequences([t.splits["dev"] for t in tasks], iter(()), settings.max_length, out.parent)
    metadata = {
        "settings": settings.model_dump(),
        "schedule": schedule.model_dump(),
        "rows": [content_hash(array) for array in (train_rows.tokens, train_rows.offsets)],
        "base": folder_hash(base),
        "tokens": folder_hash(tokens),
        "machine": machine.facts() | fusion.facts(machine),
        "seed": seed,
    }
    with Resume(resume_folder(metadata, CODE), leads=machine.ranks.leads) as resume:
        loaded = load_encoder(base, settings.dropout, generator(seed, "pooler"))
        head = loaded.mlm_head or MlmHead(loaded.encoder.config, generator(seed, "mlm head"))
        masking = make_masking(tokenizer, settings)
        before, outcome = _train_mlm(
            loaded.encoder, head, train_rows, dev_rows, masking, schedule, machine, seed, resume
        )
    machine.ranks.close()
    if not machine.ranks.leads:
        return
    save_encoder(out, loaded.encoder, head)
    for name in FILES:
        link_or_copy(base / name, out / name)
    write_manifest(out)
    write_json(cost, outcome.cost.to_json())
    scores = {epoch: score for _, epoch, _, _, score in outcome.curve}
    write_json(
        metrics,
        {
            "enabled": 1,
            "rows": len(train_rows),
            "steps": outcome.steps_done,
            "tokens": outcome.tokens,
            "dev_accuracy_before": round(before, 5),
            "dev_accuracy": round(scores[outcome.best_epoch], 5),
            "best_epoch": outcome.best_epoch,
        },
    )


def _train_mlm(
    encoder: Encoder,
    head: MlmHead,
    train_rows: PackedSplit,
    dev_rows: PackedSplit,
    masking: Masking,
    schedule: Training,
    machine: Machine,
    seed: int,
    resume: Resume,
) -> tuple[float, TrainingHistory]:
    """Trains the model; returns the dev accuracy before training, and the outcome."""
    encoder.compute_dtype, encoder.kernel = machine.dtype, machine.kernel
    encoder.freeze_pooler()
    model = MlmModel(encoder, head).to(machine.device).eval()
    learner = MlmLearner(model, train_rows, dev_rows, masking, schedule, machine, seed)
    before = learner.evaluate()[NAME]
    run = begin("pretrain", learner, schedule, resume, machine.ranks)
    fused = fusion.fuse(model, run.optimizer, machine, learner.sampler.max_sequence_length)
    return before, train(run, EagerStepper(run, fused))
