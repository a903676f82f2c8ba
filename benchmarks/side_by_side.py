"""Several runs on one device, each in a process of its own: how much longer do they take in turn than all at once?

All are started together and take their warm-up steps. When the last of them is ready the timed steps begin: of all at
once, or of one after the other while the rest wait.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier, Lock
from pathlib import Path
from threading import BrokenBarrierError

from benchmarks.cases import SEEDS, Block, Job

# Seconds that the first to be ready waits for the last: models are built and graphs captured meanwhile.
PATIENCE = 300.0
# Of a child process.
_meeting: Barrier
_turn: Lock | None


def answer(job: Job, in_turn: bool) -> Block:
    """`SEEDS` runs of every task; the seconds are those in which all of them took their timed steps."""
    jobs, context = _jobs(job), get_context("spawn")
    meeting, turn = context.Barrier(len(jobs)), context.Lock() if in_turn else None
    # No run ends before all are ready, so each gets a process.
    with ProcessPoolExecutor(len(jobs), context, _keep, (meeting, turn)) as pool:
        runs = [pool.submit(_take_steps, one) for one in jobs]
    causes = [error for run in runs if (error := run.exception())]
    for error in sorted(causes, key=lambda error: isinstance(error, BrokenBarrierError)):
        raise error
    blocks = [run.result() for run in runs]
    seconds = [block.seconds for block in blocks]
    return replace(
        blocks[0],
        seconds=sum(seconds) if in_turn else max(seconds),
        steps=sum(block.steps for block in blocks),
        rows=sum(block.rows for block in blocks),
        tokens=sum(block.tokens for block in blocks),
        flops=sum(block.flops for block in blocks),
    )


def _jobs(job: Job) -> list[Job]:
    from benchmarks.rows import as_peers_read
    from yourbert.config.params import read_params

    params, jobs = as_peers_read(read_params(Path(job.params))), []
    for task in sorted(folder.name for folder in Path(job.tokens).iterdir()):
        training = params.training(task).model_copy(update={"batch_size": job.batch}).model_dump()
        jobs += [replace(job, task=task, training=training, seed=job.seed + number) for number in range(SEEDS)]
    return jobs


def _keep(meeting: Barrier, turn: Lock | None) -> None:
    global _meeting, _turn
    _meeting, _turn = meeting, turn


def _take_steps(job: Job) -> Block:
    """One run, in a process of its own."""
    from benchmarks import ours
    from yourbert.runtime.machine import prepare

    with ExitStack() as stack:

        def warm() -> None:
            _meeting.wait(PATIENCE)
            if _turn:
                stack.enter_context(_turn)

        try:
            return ours.train_steps(job, prepare(ours.runtime_of(job, "auto")), warm)
        except BaseException:
            _meeting.abort()
            raise
