"""Masked-language-model training on the tasks' own text, before fine-tuning (Gururangan et al. 2020).

Sequences are the tasks' training rows as they were tokenized and, optionally, passages of further text. The dev rows
of the tasks, masked once and for all, tell how well the model guesses. Shapes: T tokens, M masked ones.
"""

from __future__ import annotations

import gzip
import hashlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yourbert.batching import Batch, Stream, deal, gather, in_order_of_length
from yourbert.checkpoint import Resume, resume_folder
from yourbert.distributed import here
from yourbert.encoder import Encoder
from yourbert.errors import fail
from yourbert.heads import MlmHead
from yourbert.masking import Masked, mask_tokens
from yourbert.packing import PackedSplit, open_tokens_for
from yourbert.params import Pretrain, Runtime, Training, located
from yourbert.predict import TOKENS_PER_BATCH, to_device
from yourbert.pretrained import load_encoder, save_encoder
from yourbert.runtime import Machine, generator, prepare
from yourbert.seeding import rng_for, seed_of
from yourbert.storage import folder_hash, link_or_copy, write_json, write_manifest
from yourbert.tokenizer import FILES, Tokenizer
from yourbert.train import Outcome, StepLoss, no_loss, train

NAME = "mlm"
LINES_PER_CHUNK = 4096


class MlmModel(nn.Module):
    """The encoder with the head that guesses masked word pieces."""

    def __init__(self, encoder: Encoder, head: MlmHead) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, batch: Batch, masked: Masked, machine: Machine, rng: torch.Generator | None) -> Tensor:
        """The logits_MV of the masked places."""
        seen = Batch(masked.tokens_T, batch.segments_T, batch.positions_T, batch.offsets, batch.rows_B, None)
        hidden_TE = self.encoder(to_device(seen, machine), rng)
        places_M = torch.from_numpy(masked.places_M).to(machine.device)
        logits_MV: Tensor = self.head(hidden_TE[places_M], self.encoder.word_embedding_weight)
        return logits_MV


class MlmLearner:
    """Makes the loss of each step, the mean over its masked places, and the share of dev places guessed right."""

    def __init__(
        self,
        model: MlmModel,
        train: PackedSplit,
        dev: PackedSplit,
        tokenizer: Tokenizer,
        settings: Training,
        mask_rate: float,
        machine: Machine,
        seed: int,
    ) -> None:
        self.model, self.machine, self.seed, self.mask_rate = model, machine, seed, mask_rate
        self.stream = Stream(train, settings.batch_size, seed, NAME)
        self.dev = dev
        self.mask_id, self.special_ids = tokenizer.mask_id, np.asarray(tokenizer.special_ids, dtype=np.int64)
        self.vocabulary = tokenizer.vocabulary_size
        self.rng = torch.Generator(machine.device)

    def steps(self, epoch: int) -> int:
        return self.stream.batches_per_pass

    def losses(self, epoch: int, step: int) -> Iterator[StepLoss]:
        ranks = self.machine.ranks
        batch = gather(self.stream.split, self.stream.rows(step))
        self.rng.manual_seed(seed_of(self.seed, "dropout", NAME, step, *ranks.name))
        masked = self._mask(batch, rng_for(self.seed, "mask", step))
        mine_B = deal(batch.rows_B, ranks.rank, ranks.world)
        own = masked.within(np.repeat(np.isin(batch.rows_B, mine_B), np.diff(batch.offsets)))
        total = no_loss(self.machine.device)
        if len(own.places_M):
            logits_MV = self.model(gather(self.stream.split, mine_B), own, self.machine, self.rng)
            targets_M = torch.from_numpy(own.targets_M).to(self.machine.device)
            total = F.cross_entropy(logits_MV.float(), targets_M, reduction="sum")
        yield StepLoss(NAME, total / len(masked.places_M), len(batch.rows_B), len(batch.tokens_T))

    def evaluate(self) -> dict[str, float]:
        counts = np.zeros(2, np.int64)
        ranks, rng = self.machine.ranks, rng_for(self.seed, "mask", "dev")
        with torch.inference_mode():
            for turn, batch in enumerate(in_order_of_length(self.dev, TOKENS_PER_BATCH)):
                masked = self._mask(batch, rng)  # by every rank, because each draw moves the generator on
                if turn % ranks.world == ranks.rank:
                    guesses = self.model(batch, masked, self.machine, None).argmax(-1).cpu().numpy()
                    counts += (guesses == masked.targets_M).sum(), len(guesses)
        right, places = ranks.sum(counts).tolist()
        return {NAME: right / places}

    def aggregate(self, scores: dict[str, float]) -> float:
        return scores[NAME]

    def _mask(self, batch: Batch, rng: np.random.Generator) -> Masked:
        return mask_tokens(batch.tokens_T, self.mask_rate, self.mask_id, self.special_ids, self.vocabulary, rng)


def sequences(splits: Sequence[PackedSplit], texts: Iterator[npt.NDArray[np.int64]], max_length: int) -> PackedSplit:
    """All sequences of the splits and the tokenized texts as one split of single sequences.

    A sequence longer than `max_length` is cut into pieces of at most that many tokens: no text is lost.
    """
    pieces: list[npt.NDArray[np.int64]] = []
    seconds: list[int] = []
    for split in splits:
        bounds = np.asarray(split.offsets)
        for index in range(len(bounds) - 1):
            sequence = np.asarray(split.tokens[bounds[index] : bounds[index + 1]], dtype=np.int64)
            for start in range(0, len(sequence), max_length):
                piece = sequence[start : start + max_length]
                pieces.append(piece)
                seconds.append(int(np.clip(split.second[index] - start, 0, len(piece))))
    for sequence in texts:
        pieces.append(sequence)
        seconds.append(len(sequence))
    offsets = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])])
    return PackedSplit(
        tokens=np.concatenate(pieces), offsets=offsets, second=np.asarray(seconds), labels=None, sequences_per_row=1
    )


def read_texts(place: Path, tokenizer: Tokenizer, max_length: int) -> Iterator[npt.NDArray[np.int64]]:
    """The passages (lines) of a .txt or .txt.gz file, or of every such file below a folder, as token sequences."""
    files = sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else [place]
    files = [p for p in files if p.name.endswith((".txt", ".txt.gz"))]
    if not files:
        fail(
            "D29", "no .txt or .txt.gz file there", where=f"pretrain.text: {place}", fix="name a text file or a folder"
        )
    for file in files:
        chunk: list[str] = []
        for line in _lines(file):
            chunk.append(line)
            if len(chunk) == LINES_PER_CHUNK:
                yield from _encode(chunk, tokenizer, max_length)
                chunk = []
        yield from _encode(chunk, tokenizer, max_length)


def _lines(file: Path) -> Iterator[str]:
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            for line in io.TextIOWrapper(stream, encoding="utf-8"):
                if line.strip():
                    yield line.strip()
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        fail("D08", f"not readable as UTF-8 text ({error})", where=str(file), fix="save it as UTF-8, plain or gzip")


def _encode(lines: list[str], tokenizer: Tokenizer, max_length: int) -> Iterator[npt.NDArray[np.int64]]:
    """Each line as [CLS] pieces [SEP], a long line as several of them."""
    room = max_length - 2
    for ids in tokenizer.pieces(lines):
        for start in range(0, len(ids), room):
            piece = ids[start : start + room]
            yield np.asarray([tokenizer.cls_id, *piece, tokenizer.sep_id], dtype=np.int64)


def pretrain(
    settings: Pretrain,
    schedule: Training,
    runtime: Runtime,
    seed: int,
    base: Path,
    tokens: Path,
    out: Path,
    metrics: Path,
) -> None:
    """Trains `base` on the tasks' text and writes the encoder folder `out`; passes `base` through when disabled."""
    if not settings.enabled:
        if not here().leads:
            return
        for path in sorted(p for p in base.iterdir() if p.is_file()):
            link_or_copy(path, out / path.name)
        write_json(metrics, {"enabled": 0, "rows": 0, "steps": 0, "tokens": 0})
        return
    machine = prepare(runtime, here())
    tokenizer = Tokenizer.load(base)
    texts = read_texts(located(settings.text), tokenizer, settings.max_length) if settings.text else iter(())
    opened = [open_tokens_for(folder, base) for folder in sorted(tokens.iterdir()) if folder.is_dir()]
    train_rows = sequences([t.splits["train"] for t in opened], texts, settings.max_length)
    dev_rows = sequences([t.splits["dev"] for t in opened], iter(()), settings.max_length)
    facts = {
        "settings": settings.model_dump(),
        "schedule": schedule.model_dump(),
        "rows": [hashlib.sha256(a.tobytes()).hexdigest() for a in (train_rows.tokens, train_rows.offsets)],
        "base": folder_hash(base),
        "tokens": folder_hash(tokens),
        "machine": machine.facts(),
        "seed": seed,
    }
    with Resume(resume_folder(facts), leads=machine.ranks.leads) as resume:
        loaded = load_encoder(base, settings.dropout, generator(machine, seed, "pooler"))
        head = loaded.mlm_head or MlmHead(loaded.encoder.config, generator(machine, seed, "mlm head"))
        outcome = _train_mlm(
            loaded.encoder, head, train_rows, dev_rows, tokenizer, settings, schedule, machine, seed, resume
        )
    machine.ranks.close()
    if not machine.ranks.leads:
        return
    save_encoder(out, loaded.encoder, head)
    for name in FILES:
        link_or_copy(base / name, out / name)
    write_manifest(out)
    scores = {epoch: score for _, epoch, _, _, score in outcome.curve}
    write_json(
        metrics,
        {
            "enabled": 1,
            "rows": len(train_rows),
            "steps": outcome.steps_done,
            "tokens": outcome.tokens,
            "dev_accuracy_before": round(scores[0], 5),
            "dev_accuracy": round(scores[outcome.best_epoch], 5),
            "best_epoch": outcome.best_epoch,
        },
    )


def _train_mlm(
    encoder: Encoder,
    head: MlmHead,
    train_rows: PackedSplit,
    dev_rows: PackedSplit,
    tokenizer: Tokenizer,
    settings: Pretrain,
    schedule: Training,
    machine: Machine,
    seed: int,
    resume: Resume,
) -> Outcome:
    encoder.compute_dtype = machine.dtype
    encoder.freeze_pooler()
    model = MlmModel(encoder, head).to(machine.device)
    learner = MlmLearner(model, train_rows, dev_rows, tokenizer, schedule, settings.mask_rate, machine, seed)
    return train("pretrain", learner, schedule, resume, machine.ranks)
