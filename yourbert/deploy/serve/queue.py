"""Rows that wait for the model -> batches: all that waits for one task is computed together, one batch at a time.

Nothing waits on purpose. While the model computes, requests gather, and the busier it is the larger its batches get:
so one request alone is answered at once, and many share the cost of each step. Predictions and explanations take turns,
so that a prediction waits for one explanation at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from yourbert.deploy.serve.limits import Limits, Refused

ROWS_AT_ONCE = 256
CHARACTERS_AT_ONCE = 1 << 20
RETRY_AFTER = 1  # second
Row = Sequence[str]
# A task and rows in, an answer for each row out.
Answer = Callable[[str, list[Row]], Sequence[Any]]


@dataclass(eq=False)
class Job:
    task: str
    rows: Sequence[Row]
    answer: asyncio.Future[Sequence[Any]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def characters(self) -> int:
        return sum(len(text) for row in self.rows for text in row)


class Lane:
    """Jobs of one kind in their order. alone: each is computed by itself."""

    def __init__(self, answer: Answer, most: int, alone: bool) -> None:
        self.answer, self.most, self.alone = answer, most, alone
        self.jobs: list[Job] = []

    @property
    def waiting(self) -> int:
        return sum(len(job.rows) for job in self.jobs if not job.answer.done())

    def take(self) -> list[Job]:
        """The oldest job, and those of its task that are computed with it; what nobody waits for is dropped."""
        waiting = [job for job in self.jobs if not job.answer.done()]
        taken = waiting[:1]
        rows, characters = sum(len(job.rows) for job in taken), sum(job.characters for job in taken)
        for job in [] if self.alone else waiting[1:]:
            if job.task == taken[0].task:
                rows, characters = rows + len(job.rows), characters + job.characters
                if rows > ROWS_AT_ONCE or characters > CHARACTERS_AT_ONCE:
                    break
                taken.append(job)
        self.jobs = [job for job in waiting if job not in taken]
        return taken


class Queue:
    """Answers jobs of both kinds in one thread, which alone touches the model."""

    def __init__(self, predict: Answer, explain: Answer, limits: Limits) -> None:
        self.predictions = Lane(predict, limits.waiting, alone=False)
        self.explanations = Lane(explain, limits.explanations, alone=True)
        self._thread = ThreadPoolExecutor(1, "model")
        self._something = asyncio.Event()

    async def ask(self, lane: Lane, task: str, rows: Sequence[Row]) -> Sequence[Any]:
        """The answers to the rows, in their order. Raises Refused (S06) when too many wait already.

        Who is cancelled while waiting leaves no work behind, unless it has begun.
        """
        if lane.waiting + len(rows) > lane.most:
            raise Refused(503, "S06", "too many rows are waiting", retry=RETRY_AFTER)
        job = Job(task, rows)
        lane.jobs.append(job)
        self._something.set()
        return await job.answer

    async def work(self) -> None:
        """Answers what comes, until it is cancelled; a batch that has begun is finished first."""
        try:
            while True:
                await self._something.wait()
                self._something.clear()
                while self.predictions.jobs or self.explanations.jobs:
                    for lane in (self.predictions, self.explanations):
                        await self._compute(lane)
        finally:
            self._thread.shutdown()

    async def _compute(self, lane: Lane) -> None:
        if not (jobs := lane.take()):
            return
        rows = [row for job in jobs for row in job.rows]
        loop = asyncio.get_running_loop()
        try:
            answers = await loop.run_in_executor(self._thread, lane.answer, jobs[0].task, rows)
        except Exception as error:
            for job in jobs:
                if not job.answer.done():
                    job.answer.set_exception(error)
            return
        assert len(answers) == len(rows), "an answer for each row"
        for job in jobs:
            own, answers = answers[: len(job.rows)], answers[len(job.rows) :]
            if not job.answer.done():
                job.answer.set_result(own)
