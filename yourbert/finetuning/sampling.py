"""Sampling between tasks: from which task, or tasks, each optimizer step takes a batch.

Under every sampling rule an epoch reads about as many rows as all tasks have together; the rule decides the share of
each task. `max_examples_per_task` caps the rows for which a task counts, so that one large task does not dominate.
References: `joint` is the summed loss of the study; `annealed` follows Stickland and Murray (2019), "BERT and PALs";
the cap is the K of Raffel et al. (2020), section 3.5.2, "examples-proportional mixing".
Shapes: K tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from yourbert.config.schema import Mixture, Sampling, Training
from yourbert.core.seeding import rng_for

ANNEALED_BY = 0.8
Step = tuple[int, ...]


def exponent(sampling: Sampling, temperature: float, epoch: int, epochs: int) -> float:
    """The exponent `a` of the sampling rule, with shares ~ rows^a: 1 is proportional, 0 gives equal shares."""
    match sampling:
        case "joint" | "round_robin":
            return 0.0
        case "proportional":
            return 1.0
        case "temperature":
            return 1.0 / temperature
        case "annealed":
            return 1.0 - ANNEALED_BY * epoch / max(1, epochs - 1)


def allocate_steps(rows_K: Sequence[int], a: float, steps: int) -> npt.NDArray[np.int64]:
    """Divides `steps` among the tasks in shares ~ rows^a, rounded by the largest-remainder method, [K]."""
    weights_K = np.asarray(rows_K, dtype=np.float64) ** a
    exact_K = steps * weights_K / weights_K.sum()
    counts_K: npt.NDArray[np.int64] = np.floor(exact_K).astype(np.int64)
    largest_remainders = np.argsort(counts_K - exact_K, kind="stable")[: steps - counts_K.sum()]
    counts_K[largest_remainders] += 1
    return counts_K


def capped_rows(rows_K: Sequence[int], limit: int) -> list[int]:
    """The number of rows for which each task counts in an epoch: at most `limit`, or all if that is 0."""
    return [min(rows, limit) if limit else rows for rows in rows_K]


def steps_of_epoch(rows_K: Sequence[int], batch_size: int, sampling: Sampling) -> int:
    """The number of optimizer steps of an epoch, which is the same for all epochs."""
    if sampling == "joint":
        return -(-sum(rows_K) // (batch_size * len(rows_K)))
    return sum(_batches(rows_K, batch_size))


def with_min_steps(settings: Training, mixture: Mixture, rows_K: Sequence[int]) -> Training:
    """The settings with `epochs` increased until there are at least `min_steps` optimizer steps."""
    steps = steps_of_epoch(capped_rows(rows_K, mixture.max_examples_per_task), settings.batch_size, mixture.sampling)
    return settings.model_copy(update={"epochs": max(settings.epochs, -(-settings.min_steps // steps))})


def _batches(rows_K: Sequence[int], batch_size: int) -> list[int]:
    """The number of batches per task, rounded up, so that a proportional epoch reads every row exactly once."""
    return [-(-rows // batch_size) for rows in rows_K]


def plan_epoch(
    rows_K: Sequence[int],
    batch_size: int,
    sampling: Sampling,
    temperature: float,
    epoch: int,
    epochs: int,
    seed: int,
) -> list[Step]:
    """The task indices of each step of an epoch; `epoch` counts from 0. With `joint` every step has all tasks."""
    tasks, steps = range(len(rows_K)), steps_of_epoch(rows_K, batch_size, sampling)
    if sampling == "joint":
        return [tuple(tasks)] * steps
    if sampling == "round_robin":
        return [(step % len(rows_K),) for step in range(steps)]
    counts_K = allocate_steps(_batches(rows_K, batch_size), exponent(sampling, temperature, epoch, epochs), steps)
    order = np.repeat(tasks, counts_K)
    rng_for(seed, "mixing", epoch).shuffle(order)
    return [(int(task),) for task in order]
