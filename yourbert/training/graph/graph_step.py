"""The training step as a CUDA graph: captured once for each batch shape, then replayed.

The steps are small: launching the operations one by one takes longer than computing them. So a step (gather the rows,
forward, backward, clip, AdamW, accumulate the losses) is captured as one graph and replayed by a single call. A graph
replays the same kernels on the same addresses. So what differs from step to step is in tables on the device, indexed by
a step counter on the device: the row numbers of the epoch's batches, and the learning rates. Batches are padded to a
few shapes (`yourbert/training/graph/buckets.py`) and gathered from a split in device memory
(`yourbert/training/graph/resident.py`).

The host does not wait for the device within an epoch. A gradient that is not finite sets a flag on the device, and
while it is set no weight is updated. The host reads the flag when it reads the losses, and then stops the run as
`EagerStepper` does.

Dropout: the generator is seeded before every step with the run's seed, the step's tasks and its number. A replay reads
the current seed, so the draws of a step depend only on the seed and its number, and a resume needs no generator state.

Where graphs do not work, the same operations are launched one by one, with the same results. The tests on a CPU use
this.

Shapes: N steps of an epoch, P batches of a step, B rows of a batch, K tasks.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from yourbert.config.schema import Training
from yourbert.core.seeding import seed_of
from yourbert.model.encoder import Embeddings
from yourbert.runtime.gpu import FAULTS, capture, dropout_generator, reason, side_stream
from yourbert.runtime.machine import Machine
from yourbert.tokens.batching import BatchSampler, row_lengths
from yourbert.training.fused.fusion import fuse
from yourbert.training.graph.buckets import Bucket, Sizes, plan
from yourbert.training.graph.resident import ResidentBatch, ResidentSplit
from yourbert.training.history import Sums
from yourbert.training.loop import EagerStepper, Learner, Run, Stepper, no_memory, not_finite
from yourbert.training.optimizer import FusedWeights, bind_lr, clear_gradients, optimizer_step, rate

logger = logging.getLogger("yourbert")
Ints = npt.NDArray[np.int64]
# The share of the free GPU memory that the rows may take; the rest is for weights, moments and activations.
ROWS_SHARE = 0.25


@dataclass(frozen=True)
class Shape:
    """The shape that a captured graph is for: the tasks of a step, and the bucket of each task's batch."""

    tasks: tuple[str, ...]
    buckets: tuple[Bucket, ...]


@dataclass(frozen=True)
class StepFacts:
    """A step as planned on the host: its shape, its rows, and its number of tokens without filler."""

    shape: Shape
    rows_P: tuple[Ints, ...]
    tokens: int


class Filled(Learner, Protocol):
    """A learner whose steps are determined by row numbers, and which can compute losses of padded batches.

    names: its tasks, each with a sampler of rows. num_views: how often each row occurs in its batch. supports_graph:
    whether a step is one forward and one backward pass of the whole model, so that it can be fused and captured.
    """

    @property
    def names(self) -> Sequence[str]: ...
    @property
    def samplers(self) -> Mapping[str, BatchSampler]: ...
    @property
    def settings(self) -> Training: ...
    @property
    def machine(self) -> Machine: ...
    @property
    def seed(self) -> int: ...
    @property
    def num_views(self) -> int: ...
    @property
    def supports_graph(self) -> bool: ...

    def schedule(self, epoch: int) -> list[list[tuple[str, int]]]:
        """For each step of an epoch, its tasks and the number of each task's batch."""
        ...

    def padded_loss(self, name: str, batch: ResidentBatch, rows: Tensor, rng: torch.Generator) -> Tensor:
        """The loss of a task's padded batch with `rows` real rows, by operations that can be captured."""
        ...


def make_stepper(learner: Filled, run: Run) -> Stepper:
    """Returns the stepper for the model and the optimizer of `run`, and prepares both for it.

    Trainable layers are fused where that works (`yourbert/training/fused/fusion.py`): their parameters and their
    optimizer state become views of buffers that kernels update. On a single GPU that has room for the rows, each shape
    of a step is captured as a CUDA graph when the first epoch with it starts. Afterwards only the returned stepper may
    take steps or read gradients. Weights may be read at any time, and written before an epoch starts.

    Where neither works, or a loss needs the plain operations, nothing is changed; the steps differ only in rounding.
    """
    machine = learner.machine
    if not learner.supports_graph or machine.ranks.world > 1:
        return EagerStepper(run)
    if machine.device.type == "cuda" and not _rows_fit(learner, machine.device):
        return EagerStepper(run)
    longest = max(sampler.max_sequence_length for sampler in learner.samplers.values())
    fusion = fuse(learner.model, run.optimizer, machine, longest)
    if machine.device.type == "cpu":
        return EagerStepper(run, fusion)
    return GraphStep(learner, run, machine.graph, fusion)


def _rows_fit(learner: Filled, device: torch.device) -> bool:
    needed = sum(ResidentSplit.bytes_of(sampler.split) for sampler in learner.samplers.values())
    free, _ = torch.cuda.mem_get_info(device)
    if needed > ROWS_SHARE * free:
        logger.info("the rows take %d MB of the GPU's free %d MB: batches come from the host", needed >> 20, free >> 20)
    return needed <= ROWS_SHARE * free


class GraphStep:
    """A `Stepper` that computes a step by `_compute`, captured where `graphs` says so."""

    def __init__(self, learner: Filled, run: Run, graphs: bool, fusion: FusedWeights | None = None) -> None:
        self.learner, self.run, self.graphs, self.fusion = learner, run, graphs, fusion
        device = self.device = learner.machine.device
        self.rng = dropout_generator(device)
        (pad,) = (part.pad for part in learner.model.modules() if isinstance(part, Embeddings))
        self.resident = {n: ResidentSplit(sampler.split, pad, device) for n, sampler in learner.samplers.items()}
        self.shapes = _Shapes(learner)
        steps = max(learner.steps(epoch) for epoch in range(run.settings.epochs))
        batches = max(len(shape.tasks) for shape in self.shapes.all())
        # The inputs and outputs of `_compute`. A captured graph uses fixed addresses, so these tensors are written in
        # place and never replaced.
        self.rows_PNB = torch.empty(batches, steps, run.settings.batch_size, dtype=torch.int64, device=device)
        self.rates_N = torch.empty(steps, device=device)
        self.rate = torch.zeros((), device=device)
        self.at = torch.zeros(1, dtype=torch.int64, device=device)
        self.stopped = torch.zeros((), dtype=torch.bool, device=device)
        self.sums_K = torch.zeros(len(learner.names), dtype=torch.float64, device=device)
        self.moved = torch.zeros((), dtype=torch.float64, device=device)
        bind_lr(run.optimizer, self.rate)
        self._graphs: dict[Shape, torch.cuda.CUDAGraph] = {}
        self._epoch: list[StepFacts] = []
        self._number = self._first = self._done = 0
        self._rows: dict[str, int] = {}

    def start_epoch(self, epoch: int, step: int, sums: Sums) -> None:
        if self.fusion:
            self.fusion.sync_from_master()  # other code may have written the weights between two epochs
        self._epoch, first = self.shapes.epoch(epoch), self.shapes.first_step(epoch)
        self._number, self._first, self._done = epoch, first, step - first
        self._rows = {task: rows for task, (_, rows) in sums.items()}
        settings, steps = self.run.settings, len(self._epoch)
        # -1 stands for no row: in the short last batch of a pass, and in steps with fewer tasks than others.
        rows_PNB = np.full(self.rows_PNB.shape, -1, np.int64)
        for number, facts in enumerate(self._epoch):
            for part, rows_B in enumerate(facts.rows_P):
                rows_PNB[part, number, : len(rows_B)] = rows_B
        self.rows_PNB.copy_(torch.from_numpy(rows_PNB))
        self.rates_N[:steps].copy_(torch.tensor([rate(first + n, self.run.steps, settings) for n in range(steps)]))
        for tensor in (self.at, self.moved):
            tensor.fill_(self._done)
        self.stopped.zero_()
        totals = [sums.get(task, (0.0, 0))[0] for task in self.learner.names]
        self.sums_K.copy_(torch.tensor(totals, dtype=torch.float64))
        for number, facts in enumerate(self._epoch):
            if self.graphs and facts.shape not in self._graphs:
                self._capture(facts.shape, number)

    def step(self) -> tuple[int, int]:
        facts = self._epoch[self._done]
        shape = facts.shape
        # A replay reads the current seed, so a captured step makes the same draws as one that is not captured.
        self.rng.manual_seed(seed_of(self.learner.seed, "dropout", *shape.tasks, self._first + self._done))
        try:
            self._graphs[shape].replay() if shape in self._graphs else self._compute(shape)
        except torch.OutOfMemoryError:
            no_memory(self.run, self._number, self._first + self._done)
        # Counted from the plan on the host, because reading from the device would wait for the step.
        self._done += 1
        for task, rows_B in zip(shape.tasks, facts.rows_P, strict=True):
            self._rows[task] = self._rows.get(task, 0) + len(rows_B)
        return sum(map(len, facts.rows_P)), facts.tokens

    def sums(self) -> Sums:
        # One copy fetches all numbers; here the host waits for the device.
        *sums_K, stopped, moved = torch.cat([self.sums_K, torch.stack([self.stopped.double(), self.moved])]).tolist()
        if stopped:
            not_finite(self.run, self._number, self._first + int(moved))
        totals = dict(zip(self.learner.names, sums_K, strict=True))
        return {task: (totals[task], rows) for task, rows in self._rows.items()}

    def _compute(self, shape: Shape) -> None:
        """One step, without host synchronization and without values that are specific to this step."""
        self.rate.copy_(self.rates_N.index_select(0, self.at)[0])
        for part, (task, bucket) in enumerate(zip(shape.tasks, shape.buckets, strict=True)):
            rows_B = self.rows_PNB[part].index_select(0, self.at)[0]
            loss, rows = self._loss(task, rows_B, bucket)
            # Task by task: gradients accumulate, and activations are freed before the next forward pass.
            loss.backward()  # type: ignore[no-untyped-call]
            self.sums_K[self.learner.names.index(task)].add_(loss.detach().double() * rows)
        optimizer_step(
            self.run.optimizer, self.run.learning.values(), self.run.settings.max_grad_norm, self.stopped, self.fusion
        )
        # The step counter keeps counting after a stop; `moved` then gives the step that stopped.
        self.moved += ~self.stopped
        self.at += 1

    def _loss(self, task: str, rows_B: Tensor, bucket: Bucket) -> tuple[Tensor, Tensor]:
        """The learner's loss of a padded batch, and its number of real rows."""
        # R-Drop reads each row twice, side by side: [B] -> [B * num_views].
        read_B = rows_B[:, None].expand(-1, self.learner.num_views).flatten()
        batch, rows = self.resident[task].gather(read_B, bucket), (rows_B >= 0).sum()
        return self.learner.padded_loss(task, batch, rows, self.rng), rows

    def _capture(self, shape: Shape, number: int) -> None:
        """Captures a step of this shape, after a warm-up run of step `number`, which has the shape.

        The warm-up loads kernels and fills caches, which is not allowed during a capture. It updates no weight, because
        the flag is set, and the counters are restored.
        """
        state = (self.at, self.stopped, self.sums_K, self.moved)
        before = [tensor.clone() for tensor in state]
        stream = side_stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            self.at.fill_(number)
            self.stopped.fill_(True)
            self._compute(shape)
            for tensor, value in zip(state, before, strict=True):
                tensor.copy_(value)
        torch.cuda.current_stream(self.device).wait_stream(stream)
        # All graphs share one memory pool, because they never run at the same time.
        pool = next(iter(self._graphs.values())).pool() if self._graphs else None
        try:
            self._graphs[shape] = capture(lambda: self._compute(shape), self.device, pool)
        except FAULTS as error:
            logger.info("a step could not be captured as a graph (%s): operations one by one", reason(error))
            self.graphs = False
            self._graphs.clear()
            clear_gradients(self.run.optimizer, self.fusion)


class _Shapes:
    """The shapes of all steps of all epochs, chosen before the first, so that later epochs need no new graph."""

    def __init__(self, learner: Filled) -> None:
        self.learner = learner
        self._lengths = {n: row_lengths(sampler.split) for n, sampler in learner.samplers.items()}
        self._per_row = {n: sampler.split.sequences_per_row for n, sampler in learner.samplers.items()}
        self._longest = {n: _longest(s.split.offsets, self._per_row[n]) for n, s in learner.samplers.items()}
        schedules = [learner.schedule(epoch) for epoch in range(learner.settings.epochs)]
        steps = [step for schedule in schedules for step in schedule]
        self._of_step: list[Shape | None] = [None] * len(steps)
        self._starts = np.cumsum([0, *map(len, schedules)])
        for tasks in dict.fromkeys(_tasks(step) for step in steps):
            numbers = [number for number, step in enumerate(steps) if _tasks(step) == tasks]
            planned = plan(self._sizes([steps[number] for number in numbers]))
            for number, choice in zip(numbers, planned.of_N, strict=True):
                self._of_step[number] = Shape(tasks, planned.buckets[choice])

    def all(self) -> list[Shape]:
        return [shape for shape in dict.fromkeys(self._of_step) if shape is not None]

    def first_step(self, epoch: int) -> int:
        return int(self._starts[epoch])

    def epoch(self, epoch: int) -> list[StepFacts]:
        """The steps of an epoch, with the rows of their batches."""
        found = []
        for number, step in enumerate(self.learner.schedule(epoch), start=self._starts[epoch]):
            rows_P = tuple(self.learner.samplers[task].rows(batch) for task, batch in step)
            tokens = sum(int(self._lengths[task][rows_B].sum()) for (task, _), rows_B in zip(step, rows_P, strict=True))
            shape = self._of_step[number]
            assert shape is not None, "every step was planned"
            found.append(StepFacts(shape, rows_P, tokens))
        return found

    def _sizes(self, steps: list[list[tuple[str, int]]]) -> Sizes:
        """The batch sizes of steps that have the same tasks."""
        measured = [[self._measure(task, batch) for task, batch in step] for step in steps]
        tokens_NP, sequences_NP, longest_NP = np.array(measured, np.int64).transpose(2, 0, 1)
        rows = self.learner.settings.batch_size * self.learner.num_views
        slots_P = tuple(rows * self._per_row[task] for task in _tasks(steps[0]))
        return Sizes(tokens_NP, sequences_NP, longest_NP, slots_P)

    def _measure(self, task: str, batch: int) -> tuple[int, int, int]:
        rows_B, num_views = self.learner.samplers[task].rows(batch), self.learner.num_views
        sequences = num_views * len(rows_B) * self._per_row[task]
        return num_views * int(self._lengths[task][rows_B].sum()), sequences, int(self._longest[task][rows_B].max())


def _tasks(step: list[tuple[str, int]]) -> tuple[str, ...]:
    return tuple(task for task, _ in step)


def _longest(offsets: Ints, sequences_per_row: int) -> Ints:
    """The length of the longest sequence of each row."""
    lengths: Ints = np.diff(np.asarray(offsets)).reshape(-1, sequences_per_row).max(1)
    return lengths
