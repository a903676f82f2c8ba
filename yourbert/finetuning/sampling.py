"""Which task, or tasks, each optimizer step learns from.

An epoch of a mixture reads as many rows as its tasks have together, whatever the rule; the rule decides the shares.
A limit on the rows that a task counts for keeps one large task from drowning the others.
References: the joint rule is the study's summed loss; annealing follows Stickland and Murray (2019), "BERT and PALs";
the limit is that of Raffel et al. (2020), section 3.5.2, "examples-proportional mixing".
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
    """The `a` of shares ~ rows^a: 1 is proportional, 0 gives every task the same share."""
    match sampling:
        case "joint" | "round_robin":
            return 0.0
        case "proportional":
            return 1.0
        case "temperature":
            return 1.0 / temperature
        case "annealed":
            return 1.0 - ANNEALED_BY * epoch / max(1, epochs - 1)


def quotas(rows_K: Sequence[int], a: float, steps: int) -> npt.NDArray[np.int64]:
    """Whole numbers of steps for each task that add up to `steps`, in shares ~ rows^a (largest remainders)."""
    weights_K = np.asarray(rows_K, dtype=np.float64) ** a
    exact_K = steps * weights_K / weights_K.sum()
    counts_K: npt.NDArray[np.int64] = np.floor(exact_K).astype(np.int64)
    behind = np.argsort(counts_K - exact_K, kind="stable")[: steps - counts_K.sum()]
    counts_K[behind] += 1
    return counts_K


def counted(rows_K: Sequence[int], limit: int) -> list[int]:
    """The rows of each task that an epoch is planned for; a `limit` of 0 counts all."""
    return [min(rows, limit) if limit else rows for rows in rows_K]


def steps_of_epoch(rows_K: Sequence[int], batch_size: int, sampling: Sampling) -> int:
    """How many optimizer steps an epoch has: each as many as any other."""
    if sampling == "joint":
        return -(-sum(rows_K) // (batch_size * len(rows_K)))
    return sum(_batches(rows_K, batch_size))


def planned(settings: Training, mixture: Mixture, rows_K: Sequence[int]) -> Training:
    """The settings with the epochs that are run: whole ones are added until there are `min_steps` optimizer steps."""
    steps = steps_of_epoch(counted(rows_K, mixture.max_examples_per_task), settings.batch_size, mixture.sampling)
    return settings.model_copy(update={"epochs": max(settings.epochs, -(-settings.min_steps // steps))})


def _batches(rows_K: Sequence[int], batch_size: int) -> list[int]:
    """Rounded up per task, so that a proportional epoch reads every row exactly once."""
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
    """The tasks (indices) of each step of an epoch, counted from 0; "joint" names all of them in every step."""
    tasks, steps = range(len(rows_K)), steps_of_epoch(rows_K, batch_size, sampling)
    if sampling == "joint":
        return [tuple(tasks)] * steps
    if sampling == "round_robin":
        return [(step % len(rows_K),) for step in range(steps)]
    counts_K = quotas(_batches(rows_K, batch_size), exponent(sampling, temperature, epoch, epochs), steps)
    order = np.repeat(tasks, counts_K)
    rng_for(seed, "mixing", epoch).shuffle(order)
    return [(int(task),) for task in order]
