"""The learner of masked-language-model training: which tokens a step masks, the loss of guessing them, the dev score.

Shapes: T tokens, M masked ones, V word pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

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
from yourbert.tokens.batching import Batch, Stream, deal, gather, in_order_of_length, in_pieces
from yourbert.tokens.packing import PackedSplit
from yourbert.training.graph.resident import ResidentBatch
from yourbert.training.steps import StepLoss, no_loss

NAME = "mlm"
IGNORED = -100  # the target of what is no place


class MlmModel(nn.Module):
    """The encoder with the head that guesses masked word pieces."""

    def __init__(self, encoder: Encoder, head: MlmHead) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, seen: Packed, places_M: Tensor, rng: torch.Generator | None) -> Tensor:
        """The logits_MV of the masked places, in fp32."""
        hidden_TE = self.encoder(seen, rng)
        logits_MV: Tensor = self.head(hidden_TE.index_select(0, places_M), self.encoder.word_embedding_weight)
        return logits_MV.float()

    def guess(self, batch: Batch, masked: Masked, machine: Machine, rng: torch.Generator | None) -> Tensor:
        """The logits_MV of a batch that the host masked."""
        seen = Batch(masked.tokens_T, batch.segments_T, batch.positions_T, batch.offsets, batch.rows_B, None)
        places_M = torch.from_numpy(masked.places_M).to(machine.device)
        logits_MV: Tensor = self(to_device(seen, machine), places_M, rng)
        return logits_MV


class MlmLearner:
    """Makes the loss of each step, the mean over its masked places, and the share of dev places guessed right."""

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
        self.settings, self.names, self.pieces, self.looks, self.whole = settings, [NAME], 1, 1, True
        self.stream = Stream(train, settings.batch_size, seed, NAME)
        self.streams = {NAME: self.stream}
        self.dev = dev
        self.rng = dropout_generator(machine.device)
        # For steps as a whole: the masked places of a batch, -1 for none, and what is to be seen there.
        most = masking.count(settings.batch_size * self.stream.longest)
        self.masked_2M = torch.full((2, most), -1, device=machine.device)

    def steps(self, epoch: int) -> int:
        return self.stream.batches_per_pass

    def schedule(self, epoch: int) -> list[list[tuple[str, int]]]:
        steps = self.steps(epoch)
        return [[(NAME, step)] for step in range(epoch * steps, (epoch + 1) * steps)]

    def losses(self, epoch: int, step: int) -> Iterator[StepLoss]:
        ranks = self.machine.ranks
        batch, masked = self._read(step)
        self.rng.manual_seed(seed_of(self.seed, "dropout", NAME, step, *ranks.name))
        mine_B = deal(batch.rows_B, ranks.rank, ranks.world)
        for piece_B, counts, last in in_pieces(mine_B, self.pieces, (len(batch.rows_B), len(batch.tokens_T))):
            own = masked.within(np.repeat(np.isin(batch.rows_B, piece_B), np.diff(batch.offsets)))
            total = no_loss(self.machine.device)
            if len(own.places_M):
                whole = np.array_equal(piece_B, batch.rows_B)
                piece = batch if whole else gather(self.stream.split, piece_B)
                logits_MV = self.model.guess(piece, own, self.machine, self.rng)
                targets_M = torch.from_numpy(own.targets_M).to(self.machine.device)
                total = F.cross_entropy(logits_MV, targets_M, reduction="sum")
            yield StepLoss(NAME, total / len(masked.places_M), *counts, of=len(batch.rows_B), last=last)

    def _read(self, step: int) -> tuple[Batch, Masked]:
        """The batch of a step and what is masked there."""
        batch = self.stream.batch(step)
        return batch, self.masking.mask(batch.tokens_T, rng_for(self.seed, "mask", step))

    def feed(self, step: int) -> None:
        """What the step masks. The host does not wait for the copy, and so is ahead of a GPU by its masking."""
        _, masked = self._read(step)
        told_2M = torch.full(self.masked_2M.shape, -1, pin_memory=self.masked_2M.is_cuda)
        told_2M[0, : len(masked.places_M)] = torch.from_numpy(masked.places_M)
        told_2M[1, : len(masked.places_M)] = torch.from_numpy(masked.tokens_T[masked.places_M])
        self.masked_2M.copy_(told_2M, non_blocking=True)

    def filled_loss(self, name: str, batch: ResidentBatch, rows: Tensor, rng: torch.Generator) -> Tensor:
        """The same loss, with room for as many places as a batch with these tokens can have."""
        packed = batch.packed
        places_M, seen_M = self.masked_2M[:, : self.masking.count(len(packed.tokens_T))].unbind()
        real_M = places_M >= 0
        # What is no place reads the last token, which is filler.
        places_M = places_M.where(real_M, len(packed.tokens_T) - 1)
        true_M = packed.tokens_T.index_select(0, places_M)
        seen_T = packed.tokens_T.scatter(0, places_M, seen_M.where(real_M, true_M))
        logits_MV = self.model(replace(packed, tokens_T=seen_T), places_M, rng)
        targets_M = true_M.masked_fill(~real_M, IGNORED)
        loss: Tensor = F.cross_entropy(logits_MV, targets_M, ignore_index=IGNORED, reduction="sum")
        return loss / real_M.sum().clamp(min=1)

    def rows_of(self, epoch: int, step: int) -> str:
        return f"sequences {shortened([str(row) for row in self.stream.rows(step)])}"

    def evaluate(self) -> dict[str, float]:
        counts = np.zeros(2, np.int64)
        ranks, rng = self.machine.ranks, rng_for(self.seed, "mask", "dev")
        with torch.inference_mode():
            for turn, batch in enumerate(in_order_of_length(self.dev, TOKENS_PER_BATCH)):
                # By every rank, because each draw moves the generator on.
                masked = self.masking.mask(batch.tokens_T, rng)
                if turn % ranks.world == ranks.rank:
                    guesses = self.model.guess(batch, masked, self.machine, None).argmax(-1).cpu().numpy()
                    counts += (guesses == masked.targets_M).sum(), len(guesses)
        right, places = ranks.sum(counts).tolist()
        return {NAME: right / places}

    def aggregate(self, scores: dict[str, float]) -> float:
        return scores[NAME]
