"""The learner of fine-tuning, on one task or on a mixture: a single task is a mixture of one.

With `freeze_encoder: true` the encoder's vectors are computed once, and only the heads are trained on them.
Shapes: B rows, S sequences, E hidden width, C classes or scores, K tasks.
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
from yourbert.finetuning.losses import balanced_weights, loss_sum, r_drop_loss, smart_loss
from yourbert.finetuning.sampling import capped_rows, plan_epoch
from yourbert.inference.predict import compute_features, predict, predict_from_features, to_device
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

LABELED_SPLITS: tuple[Split, ...] = ("train", "dev")


def set_trainable(model: Model, mixture: Mixture, settings: Training) -> None:
    """Freezes the weights that are not trained. Call it before making a learner or an optimizer for the model."""
    if mixture.task_specific_layers:
        model.train_only_task_specific_layers(mixture.task_specific_layers)
    if settings.freeze_encoder:
        model.freeze_layers()


class TaskLearner:
    """Computes the losses of each step and the dev scores, for the tasks that `mixture` trains, in its order.

    It never changes the model: `set_trainable` decides which weights are trained, and `sampling.with_min_steps` how
    many epochs. num_views: how often each row occurs in its batch, 2 for R-Drop.
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
        self.names = mixture.trained_tasks
        self.rows_K = capped_rows(
            [len(tokens[name].splits["train"]) for name in self.names], mixture.max_examples_per_task
        )
        self.samplers = {
            n: BatchSampler(tokens[n].splits["train"], settings.batch_size, seed, n, self._difficulty(tokens[n]))
            for n in self.names
        }
        self.rng = dropout_generator(machine.device)
        self._schedules: list[list[list[tuple[str, int]]]] = []
        self._batches_planned = dict.fromkeys(self.names, 0)
        self.class_weights = {n: self._weights(tokens[n]) for n in self.names}
        self.frozen = settings.freeze_encoder
        self.num_views = 2 if settings.regularizer == "r_drop" and not self.frozen else 1
        if self.frozen:
            splits = [(name, split) for name in self.names for split in LABELED_SPLITS]
            self.features = {(n, s): compute_features(model, n, tokens[n].splits[s], machine) for n, s in splits}

    def steps(self, epoch: int) -> int:
        return len(self.schedule(epoch))

    def losses(self, epoch: int, step: int, micro_batches: int = 1) -> Iterator[StepLoss]:
        """The losses of optimizer step `step`: each the mean over a task's rows in the step, times its weight."""
        batches = self._step_batches(epoch, step)
        for name, batch_number in batches:
            # Seeded per step, so that a resumed run draws the same dropout masks without saved generator state.
            self.rng.manual_seed(seed_of(self.seed, "dropout", name, step, *self.machine.ranks.name))
            yield from self._task_losses(name, batch_number, micro_batches, last=name == batches[-1][0])

    @property
    def supports_graph(self) -> bool:
        """Whether a step can be a CUDA graph: the encoder is trained, and the loss itself computes no gradient."""
        return not self.frozen and self.settings.regularizer != "smart"

    def padded_loss(self, name: str, batch: ResidentBatch, rows: Tensor, rng: torch.Generator) -> Tensor:
        """The loss that `losses` yields, for a batch padded to a fixed shape. rows: the number of its real rows."""
        pooled_SE = self.model.pooled(name, batch.packed, rng)
        # The last sequences hold the filler tokens and belong to no row.
        row_pooled_SE = pooled_SE[: len(batch.real_B) * self.tokens[name].task.sequences_per_row]
        scores_BC = self.model.scores_of_features(name, row_pooled_SE, rng)
        assert batch.labels_B is not None, "training reads labels"
        total = self.loss(name, scores_BC, batch.labels_B, batch.real_B)
        return self.mixture.loss_weights.get(name, 1.0) * total / rows

    def rows_of(self, epoch: int, step: int) -> str:
        """The ids of the rows of a step, for messages."""
        tasks = []
        for name, batch_number in self._step_batches(epoch, step):
            sampler = self.samplers[name]
            ids, rows_B = sampler.split.ids(), sampler.rows(batch_number)
            tasks.append(f"{name}: {shortened([ids[row] for row in rows_B])}")
        return "; ".join(tasks)

    def evaluate(self) -> dict[str, float]:
        return {name: self._dev_score(self.tokens[name]) for name in self.names}

    def aggregate(self, scores: dict[str, float]) -> float:
        """The score that selects the best epoch, `model_selection_metric`: one task's, or the mean, on a 0..1 scale."""
        normalized = {n: normalised(self.tokens[n].task.metric, s) for n, s in scores.items()}
        return normalized.get(self.mixture.model_selection_metric, sum(normalized.values()) / len(scores))

    def schedule(self, epoch: int) -> list[list[tuple[str, int]]]:
        """For each step of an epoch, its tasks and their batch numbers, which count on from epoch to epoch."""
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
            self._schedules.append([[self._next_batch(self.names[index]) for index in tasks] for tasks in plan])
        return self._schedules[epoch]

    def _step_batches(self, epoch: int, step: int) -> list[tuple[str, int]]:
        """The tasks and batch numbers of step `step` of the run, which is in epoch `epoch`."""
        return self.schedule(epoch)[step - sum(self.steps(e) for e in range(epoch))]

    def _next_batch(self, name: str) -> tuple[str, int]:
        self._batches_planned[name] += 1
        return name, self._batches_planned[name] - 1

    def _task_losses(self, name: str, batch_number: int, micro_batches: int, last: bool) -> Iterator[StepLoss]:
        """The loss of this rank's rows of a task's batch, one for each micro-batch."""
        sampler, ranks = self.samplers[name], self.machine.ranks
        rows_B = sampler.rows(batch_number)
        shard_B = shard_rows(rows_B, ranks.rank, ranks.world)
        counts = len(rows_B), sampler.count_tokens(rows_B)
        for part_B, part_counts, ends in split_micro_batches(shard_B, micro_batches, counts):
            total = no_loss(self.machine.device)
            if len(part_B):
                total = self._loss_sum(name, gather(sampler.split, np.repeat(part_B, self.num_views)))
            # Divided by the rows of the whole step, so that the gradients of all parts and ranks add up to its mean.
            loss = self.mixture.loss_weights.get(name, 1.0) * total / len(rows_B)
            yield StepLoss(name, loss, *part_counts, batch_rows=len(rows_B), last=last and ends)

    def _loss_sum(self, name: str, batch: Batch) -> Tensor:
        """The loss of a batch, summed over its rows, each of which occurs in it `num_views` times in succession."""
        task = self.tokens[name].task
        labels_B = torch.from_numpy(batch.labels_B).to(self.machine.device)
        if self.frozen:
            rows_B = torch.from_numpy(batch.rows_B).to(self.machine.device)
            per_row = task.sequences_per_row  # [B] -> [B, per_row] -> [S]
            sequences_S = (rows_B[:, None] * per_row + torch.arange(per_row, device=rows_B.device)).reshape(-1)
            features_SE = self.features[name, "train"][sequences_S]
            return self.loss(name, self.model.scores_of_features(name, features_SE, self.rng), labels_B)
        packed = to_device(batch, self.machine)
        if self.settings.regularizer == "smart":
            weight = self.settings.regularizer_weight
            return smart_loss(
                self.model, task, packed, self.rng, weight, lambda scores_BC: self.loss(name, scores_BC, labels_B)
            )
        return self.loss(name, self.model(name, packed, self.rng), labels_B)

    def loss(self, name: str, scores_BC: Tensor, labels_B: Tensor, real_B: Tensor | None = None) -> Tensor:
        """The loss of a task's scores, summed over rows; with two views of each row, R-Drop's penalty is added.

        real_B: in a batch padded to a fixed size, whether an entry is a row or padding.
        """
        task = self.tokens[name].task
        if self.num_views == 1:
            return loss_sum(task, scores_BC, labels_B, self.class_weights[name], real_B)
        penalty = r_drop_loss(task, scores_BC, real_B if real_B is None else real_B[:: self.num_views])
        mean_of_views = loss_sum(task, scores_BC, labels_B, self.class_weights[name], real_B) / self.num_views
        return mean_of_views + self.settings.regularizer_weight * penalty

    def _dev_score(self, tokens: TaskTokens) -> float:
        name, split = tokens.task.name, tokens.splits["dev"]
        if self.frozen:
            outputs = predict_from_features(self.model, name, self.features[name, "dev"])
        else:
            outputs = predict(self.model, name, split, self.machine)
        assert split.labels is not None, "a dev split has labels"
        return score(tokens.task, outputs, split.labels).get(tokens.task.metric, 0.0)

    def _difficulty(self, tokens: TaskTokens) -> Difficulty | None:
        """The number by which a curriculum orders the training rows, [R]; computed before the first step."""
        split = tokens.splits["train"]
        if self.settings.curriculum == "none":
            return None
        if self.settings.curriculum == "length":
            return row_lengths(split)
        features_SE = compute_features(self.model, tokens.task.name, split, self.machine)
        assert split.labels is not None, "a train split has labels"
        return probe_errors(tokens.task, features_SE.reshape(len(split), -1).cpu().numpy(), split.labels)

    def _weights(self, tokens: TaskTokens) -> Tensor | None:
        task: Task = tokens.task
        if self.settings.class_weights == "none" or task.kind != "classification":
            return None
        labels = torch.tensor(tokens.splits["train"].labels)
        return balanced_weights(labels, len(task.labels)).to(self.machine.device)
