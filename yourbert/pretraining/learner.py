"""The learner of masked-language-model training: the masks and the loss of each step, and the dev accuracy.

Shapes: T tokens, M masked ones, V word pieces.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yourbert.config.schema import Training
from yourbert.core.errors import shortened
from yourbert.core.seeding import rng_for, seed_of
from yourbert.inference.predict import TOKENS_PER_BATCH, to_device
from yourbert.model.attention import Packed
from yourbert.model.encoder import Encoder
from yourbert.model.heads import MlmHead
from yourbert.pretraining.masking import Masked, Masking
from yourbert.runtime.gpu import dropout_generator
from yourbert.runtime.machine import Machine
from yourbert.tokens.batching import Batch, BatchSampler, gather, length_sorted_batches, shard_rows, split_micro_batches
from yourbert.tokens.packing import PackedSplit
from yourbert.training.loop import StepLoss, no_loss

NAME = "mlm"


class MlmModel(nn.Module):
    """The encoder with the head that predicts masked word pieces."""

    def __init__(self, encoder: Encoder, head: MlmHead) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, seen: Packed, indices_M: Tensor, rng: torch.Generator | None) -> Tensor:
        """The logits_MV of the tokens at indices_M, in fp32. seen: the batch with [MASK] and replaced tokens."""
        hidden_TE = self.encoder(seen, rng)
        logits_MV: Tensor = self.head(hidden_TE.index_select(0, indices_M), self.encoder.word_embedding_weight)
        return logits_MV.float()

    def masked_logits(self, batch: Batch, masked: Masked, machine: Machine, rng: torch.Generator | None) -> Tensor:
        """The logits_MV of a batch that was masked on the CPU."""
        seen = Batch(masked.tokens_T, batch.segments_T, batch.positions_T, batch.offsets, batch.rows_B, None)
        indices_M = torch.from_numpy(masked.indices_M).to(machine.device)
        logits_MV: Tensor = self(to_device(seen, machine), indices_M, rng)
        return logits_MV


class MlmLearner:
    """Computes the loss of each step, the mean over its masked tokens, and the accuracy on the masked dev tokens."""

    def __init__(
        self,
        model: MlmModel,
        train: PackedSplit,
        dev: PackedSplit,
        masking: Masking,
        settings: Training,
        machine: Machine,
        seed: int,
    ) -> None:
        self.model, self.masking, self.machine, self.seed = model, masking, machine, seed
        self.sampler = BatchSampler(train, settings.batch_size, seed, NAME)
        self.dev = dev
        self.rng = dropout_generator(machine.device)

    def steps(self, epoch: int) -> int:
        return self.sampler.batches_per_epoch

    def losses(self, epoch: int, step: int, micro_batches: int = 1) -> Iterator[StepLoss]:
        ranks, batch = self.machine.ranks, self.sampler.batch(step)
        masked = self.masking.mask(batch.tokens_T, rng_for(self.seed, "mask", step))
        self.rng.manual_seed(seed_of(self.seed, "dropout", NAME, step, *ranks.name))
        shard_B = shard_rows(batch.rows_B, ranks.rank, ranks.world)
        counts = len(batch.rows_B), len(batch.tokens_T)
        for part_B, part_counts, last in split_micro_batches(shard_B, micro_batches, counts):
            # The whole batch was masked at once, so that the masks do not depend on ranks or micro-batches.
            part_masked = masked.select(np.repeat(np.isin(batch.rows_B, part_B), np.diff(batch.offsets)))
            total = no_loss(self.machine.device)
            if len(part_masked.indices_M):
                part = batch if np.array_equal(part_B, batch.rows_B) else gather(self.sampler.split, part_B)
                logits_MV = self.model.masked_logits(part, part_masked, self.machine, self.rng)
                targets_M = torch.from_numpy(part_masked.targets_M).to(self.machine.device)
                total = F.cross_entropy(logits_MV, targets_M, reduction="sum")
            yield StepLoss(NAME, total / len(masked.indices_M), *part_counts, batch_rows=len(batch.rows_B), last=last)

    def rows_of(self, epoch: int, step: int) -> str:
        """The numbers of the sequences of a step, for messages."""
        return f"sequences {shortened([str(row) for row in self.sampler.rows(step)])}"

    def evaluate(self) -> dict[str, float]:
        counts = np.zeros(2, np.int64)
        ranks, rng = self.machine.ranks, rng_for(self.seed, "mask", "dev")
        with torch.inference_mode():
            for turn, batch in enumerate(length_sorted_batches(self.dev, TOKENS_PER_BATCH)):
                # Every rank draws every mask, because each draw advances the generator.
                masked = self.masking.mask(batch.tokens_T, rng)
                if turn % ranks.world == ranks.rank:
                    predicted = self.model.masked_logits(batch, masked, self.machine, None).argmax(-1).cpu().numpy()
                    counts += (predicted == masked.targets_M).sum(), len(predicted)
        correct, total = ranks.sum(counts).tolist()
        return {NAME: correct / total}

    def aggregate(self, scores: dict[str, float]) -> float:
        return scores[NAME]
