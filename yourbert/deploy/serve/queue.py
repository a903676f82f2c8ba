"""Dynamic batching: waiting requests of one task are computed together, one batch at a time.

No request is delayed to fill a batch. Requests gather while the model computes, so batches grow with the load: a single
request is computed at once, and concurrent ones share a forward pass. Predictions and explanations alternate, so a
prediction waits for at most one explanation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from yourbert.deploy.serve.limits import Limits, RequestError

MAX_BATCH_ROWS = 256
MAX_BATCH_CHARACTERS = 1 << 20
RETRY_AFTER_S = 1
Texts = Sequence[str]  # of one row: one, or the two of a pair
# A task's name and rows in, a result for each row out.
Compute = Callable[[str, list[Texts]], Sequence[Any]]


@dataclass(eq=False)
class Job:
    """The rows of one request, and the future of their results."""

    task: str
    rows: Sequence[Texts]
    results: asyncio.Future[Sequence[Any]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def characters(self) -> int:
        return sum(len(text) for row in self.rows for text in row)


class JobQueue:
    """Jobs of one kind, first in, first out. capacity: rows that may wait. batched: whether jobs share a batch."""

    def __init__(self, compute: Compute, capacity: int, batched: bool) -> None:
        self.compute, self.capacity, self.batched = compute, capacity, batched
        self.jobs: list[Job] = []

    @property
    def waiting_rows(self) -> int:
        return sum(len(job.rows) for job in self.jobs if not job.results.done())

    def next_batch(self) -> list[Job]:
        """Removes and returns the oldest job and the later ones that share its batch; drops cancelled jobs."""
        waiting = [job for job in self.jobs if not job.results.done()]
        batch = waiting[:1]
        rows, characters = sum(len(job.rows) for job in batch), sum(job.characters for job in batch)
        for job in waiting[1:] if self.batched else []:
            if job.task == batch[0].task:
                rows, characters = rows + len(job.rows), characters + job.characters
                if rows > MAX_BATCH_ROWS or characters > MAX_BATCH_CHARACTERS:
                    break
                batch.append(job)
        self.jobs = [job for job in waiting if job not in batch]
        return batch


class Scheduler:
    """Computes the jobs of both queues in one thread, the only one that uses the model."""

    def __init__(self, predict: Compute, explain: Compute, limits: Limits) -> None:
        self.predictions = JobQueue(predict, limits.max_waiting_rows, batched=True)
        self.explanations = JobQueue(explain, limits.max_waiting_explanations, batched=False)
        self._thread = ThreadPoolExecutor(1, "model")
        self._submitted = asyncio.Event()

    async def submit(self, queue: JobQueue, task: str, rows: Sequence[Texts]) -> Sequence[Any]:
        """The results of the rows, in order. Raises RequestError (S06) if the queue is full.

        A job that is cancelled while it waits is never computed.
        """
        if queue.waiting_rows + len(rows) > queue.capacity:
            raise RequestError(503, "S06", "too many rows are waiting", retry_after=RETRY_AFTER_S)
        job = Job(task, rows)
        queue.jobs.append(job)
        self._submitted.set()
        return await job.results

    async def run(self) -> None:
        """Computes batches until it is cancelled; the current batch is finished first."""
        try:
            while True:
                await self._submitted.wait()
                self._submitted.clear()
                while self.predictions.jobs or self.explanations.jobs:
                    for queue in (self.predictions, self.explanations):
                        await self._compute_batch(queue)
        finally:
            self._thread.shutdown()

    async def _compute_batch(self, queue: JobQueue) -> None:
        if not (jobs := queue.next_batch()):
            return
        rows = [row for job in jobs for row in job.rows]
        loop = asyncio.get_running_loop()
        try:
            results = await loop.run_in_executor(self._thread, queue.compute, jobs[0].task, rows)
        except Exception as error:
            for job in jobs:
                if not job.results.done():
                    job.results.set_exception(error)
            return
        assert len(results) == len(rows), "one result per row"
        for job in jobs:
            of_job, results = results[: len(job.rows)], results[len(job.rows) :]
            if not job.results.done():
                job.results.set_result(of_job)
