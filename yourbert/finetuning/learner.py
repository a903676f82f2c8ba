"""Fine-tuning on one task or on a mixture: the same learner, since one task is a mixture of one.

With `freeze_encoder: true` the encoder's vectors are computed once, and only the heads are trained on them.
Shapes: B rows, S sequences, E hidden width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from yourbert.config.schema import Mixture, Training
from yourbert.core.errors import shortened
from yourbert.core.seeding import seed_of
from yourbert.core.tasks import Split, Task, normalised
from yourbert.evaluation.metrics import score
from yourbert.finetuning.curriculum import probe_errors
from yourbert.finetuning.losses import adversarial_loss, balanced_weights, consistency_loss, loss_sum
from yourbert.finetuning.sampling import counted, plan_epoch
from yourbert.inference.predict import features_of, predict, predict_from_features, to_device
from yourbert.model.multitask import Model
from yourbert.runtime.gpu import dropout_generator
from yourbert.runtime.machine import Machine
from yourbert.tokens.batching import (
    Batch,
    BatchSampler,
    Difficulty,
    gather,
    row_lengths,
    shard_rows,
    split_micro_batches,
)
from yourbert.tokens.packing import TaskTokens
from yourbert.training.graph.resident import ResidentBatch
from yourbert.training.loop import StepLoss, no_loss

WITH_LABELS: tuple[Split, ...] = ("train", "dev")


def choose_what_learns(model: Model, mixture: Mixture, settings: Training) -> None:
    """Lets those weights learn that a training is to move: before a learner or an optimizer is made of the model."""
    if mixture.task_specific_layers:
        model.learn_task_specific_layers(mixture.task_specific_layers)
    if settings.freeze_encoder:
        model.freeze_layers()


class TaskLearner:
    """Makes the losses of each step and the dev scores for the tasks that `mixture` learns, in its order.

    It reads the model and never changes it: which weights learn, and what the settings plan, was decided before
    (`choose_what_learns`, `yourbert/finetuning/sampling.py`). num_views: how often each row is in its batch.
    """

    def __init__(
        self,
        model: Model,
        tokens: Mapping[str, TaskTokens],
        mixture: Mixture,
        settings: Training,
        machine: Machine,
        seed: int,
    ) -> None:
        self.model, self.tokens, self.mixture = model, tokens, mixture
        self.settings, self.machine, self.seed = settings, machine, seed
        self.names = mixture.learns
        self.rows_K = counted([len(tokens[name].splits["train"]) for name in self.names], mixture.max_examples_per_task)
        self.samplers = {
            n: BatchSampler(tokens[n].splits["train"], settings.batch_size, seed, n, self._difficulty(tokens[n]))
            for n in self.names
        }
        self.rng = dropout_generator(machine.device)
        self._schedules: list[list[list[tuple[str, int]]]] = []
        self._taken = dict.fromkeys(self.names, 0)
        self.class_weights = {n: self._weights(tokens[n]) for n in self.names}
        self.frozen = settings.freeze_encoder
        self.num_views = 2 if settings.regularizer == "r_drop" and not self.frozen else 1
        if self.frozen:
            read = [(name, split) for name in self.names for split in WITH_LABELS]
            self.features = {(n, s): features_of(model, n, tokens[n].splits[s], machine) for n, s in read}

    def steps(self, epoch: int) -> int:
        return len(self.schedule(epoch))

    def losses(self, epoch: int, step: int, micro_batches: int = 1) -> Iterator[StepLoss]:
        """The losses of optimizer step `step`; each is divided by its own task's labels in the step, then weighted."""
        parts = self._planned(epoch, step)
        for name, batch_number in parts:
            self.rng.manual_seed(seed_of(self.seed, "dropout", name, step, *self.machine.ranks.name))
            yield from self._parts(name, batch_number, micro_batches, last=name == parts[-1][0])

    @property
    def supports_graph(self) -> bool:
        """Whether a step can be computed from filled batches: from a whole model, with no gradient inside its loss."""
        return not self.frozen and self.settings.regularizer != "smart"

    def padded_loss(self, name: str, batch: ResidentBatch, rows: Tensor, rng: torch.Generator) -> Tensor:
        """The same loss as `losses` makes, from a batch filled up, `rows` of which are real; each stands as above."""
        pooled_SE = self.model.pooled(name, batch.packed, rng)
        read_SE = pooled_SE[: len(batch.real_B) * self.tokens[name].task.sequences_per_row]
        scores_BC = self.model.scores_of_features(name, read_SE, rng)
        assert batch.labels_B is not None, "training reads labels"
        total = self.loss(name, scores_BC, batch.labels_B, batch.real_B)
        return self.mixture.loss_weights.get(name, 1.0) * total / rows

    def rows_of(self, epoch: int, step: int) -> str:
        found = []
        for name, batch_number in self._planned(epoch, step):
            sampler = self.samplers[name]
            ids, rows_B = sampler.split.ids(), sampler.rows(batch_number)
            found.append(f"{name}: {shortened([ids[row] for row in rows_B])}")
        return "; ".join(found)

    def evaluate(self) -> dict[str, float]:
        return {name: self._dev_score(self.tokens[name]) for name in self.names}

    def aggregate(self, scores: dict[str, float]) -> float:
        """What chooses the epoch: the mean of the tasks' scores, each on 0..1, or the one that `select` names."""
        on_one_scale = {n: normalised(self.tokens[n].task.metric, s) for n, s in scores.items()}
        return on_one_scale.get(self.mixture.model_selection_metric, sum(on_one_scale.values()) / len(scores))

    def schedule(self, epoch: int) -> list[list[tuple[str, int]]]:
        """For each step of an epoch, the tasks it takes and the number of each one's batch; epochs go on counting."""
        while len(self._schedules) <= epoch:
            plan = plan_epoch(
                self.rows_K,
                self.settings.batch_size,
                self.mixture.sampling,
                self.mixture.temperature,
                len(self._schedules),
                self.settings.epochs,
                self.seed,
            )
            self._schedules.append([[self._next(self.names[index]) for index in tasks] for tasks in plan])
        return self._schedules[epoch]

    def _planned(self, epoch: int, step: int) -> list[tuple[str, int]]:
        """The tasks and batches of a step of the run, which lies in this epoch."""
        return self.schedule(epoch)[step - sum(self.steps(e) for e in range(epoch))]

    def _next(self, name: str) -> tuple[str, int]:
        self._taken[name] += 1
        return name, self._taken[name] - 1

    def _parts(self, name: str, batch_number: int, micro_batches: int, last: bool) -> Iterator[StepLoss]:
        """The loss of a task's batch, in one part or in several."""
        sampler, ranks = self.samplers[name], self.machine.ranks
        rows_B = sampler.rows(batch_number)
        mine_B = shard_rows(rows_B, ranks.rank, ranks.world)
        for piece_B, counts, ends in split_micro_batches(
            mine_B, micro_batches, (len(rows_B), sampler.count_tokens(rows_B))
        ):
            total = no_loss(self.machine.device)
            if len(piece_B):
                total = self._total(name, gather(sampler.split, np.repeat(piece_B, self.num_views)))
            loss = self.mixture.loss_weights.get(name, 1.0) * total / len(rows_B)
            yield StepLoss(name, loss, *counts, of=len(rows_B), last=last and ends)

    def _total(self, name: str, batch: Batch) -> Tensor:
        """The loss of a batch, summed over its rows; each stands in it `num_views` times, side by side."""
        task = self.tokens[name].task
        labels_B = torch.from_numpy(batch.labels_B).to(self.machine.device)
        if self.frozen:
            rows = torch.from_numpy(batch.rows_B).to(self.machine.device)
            per_row = task.sequences_per_row
            sequences = (rows[:, None] * per_row + torch.arange(per_row, device=rows.device)).reshape(-1)
            features_SE = self.features[name, "train"][sequences]
            return self.loss(name, self.model.scores_of_features(name, features_SE, self.rng), labels_B)
        packed = to_device(batch, self.machine)
        if self.settings.regularizer == "smart":
            weight = self.settings.regularizer_weight
            return adversarial_loss(
                self.model, task, packed, self.rng, weight, lambda scores_BC: self.loss(name, scores_BC, labels_B)
            )
        return self.loss(name, self.model(name, packed, self.rng), labels_B)

    def loss(self, name: str, scores_BC: Tensor, labels_B: Tensor, real_B: Tensor | None = None) -> Tensor:
        """The loss of a task's scores, summed over rows, with how far the looks at each differ where there are two.

        real_B: of a batch filled up to a fixed size, whether a place in it is a row.
        """
        task = self.tokens[name].task
        if self.num_views == 1:
            return loss_sum(task, scores_BC, labels_B, self.class_weights[name], real_B)
        apart = consistency_loss(task, scores_BC, real_B if real_B is None else real_B[:: self.num_views])
        once = loss_sum(task, scores_BC, labels_B, self.class_weights[name], real_B) / self.num_views
        return once + self.settings.regularizer_weight * apart

    def _dev_score(self, tokens: TaskTokens) -> float:
        name, split = tokens.task.name, tokens.splits["dev"]
        if self.frozen:
            answers = predict_from_features(self.model, name, self.features[name, "dev"])
        else:
            answers = predict(self.model, name, split, self.machine)
        assert split.labels is not None, "a dev split has labels"
        return score(tokens.task, answers, split.labels).get(tokens.task.metric, 0.0)

    def _difficulty(self, tokens: TaskTokens) -> Difficulty | None:
        """What a curriculum orders the training rows by; measured with the encoder as it comes."""
        split = tokens.splits["train"]
        if self.settings.curriculum == "none":
            return None
        if self.settings.curriculum == "length":
            return row_lengths(split)
        features_SE = features_of(self.model, tokens.task.name, split, self.machine)
        assert split.labels is not None, "a train split has labels"
        return probe_errors(tokens.task, features_SE.reshape(len(split), -1).cpu().numpy(), split.labels)

    def _weights(self, tokens: TaskTokens) -> Tensor | None:
        task: Task = tokens.task
        if self.settings.class_weights == "none" or task.kind != "classification":
            return None
        labels = torch.tensor(tokens.splits["train"].labels)
        return balanced_weights(labels, len(task.labels)).to(self.machine.device)
