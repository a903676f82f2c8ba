"""Trainings of one and two tasks, and learners whose process dies or is asked to stop."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

from tests.support import tiny
from yourbert.config.schema import Training
from yourbert.finetuning.learner import TaskLearner
from yourbert.training.checkpoint import Resume
from yourbert.training.history import TrainingHistory
from yourbert.training.loop import StepLoss


def run(folder: Path, learner: TaskLearner, settings: Training, seconds: float = 1e9) -> TrainingHistory:
    with Resume(folder / "resume", seconds) as resume:
        return tiny.trained(learner, settings, resume)


def mood() -> TaskLearner:
    return tiny.learner([tiny.tokens(tiny.task())], tiny.training(epochs=6))


def pair_of_tasks(settings: Training, **mixture: object) -> TaskLearner:
    tasks = [tiny.tokens(tiny.task()), tiny.tokens(tiny.task("sim", "similarity"), 64)]
    return tiny.learner(tasks, settings, **mixture)


class CutOff(Exception):
    pass


class Interrupted(TaskLearner):
    """A learner whose process dies, or is asked to stop by a signal, at a given step or evaluation (from 0)."""

    dies_at = 10**9
    asked_at = 10**9
    asked_while_evaluating = 10**9
    asks: tuple[int, ...] = (signal.SIGTERM,)

    def losses(self, epoch: int, step: int, micro_batches: int = 1) -> Iterator[StepLoss]:
        self.steps_taken = [*getattr(self, "steps_taken", []), step]
        if step == self.dies_at:
            raise CutOff
        if step == self.asked_at:
            self.ask()
        yield from super().losses(epoch, step, micro_batches)

    def evaluate(self) -> dict[str, float]:
        self.evaluations = getattr(self, "evaluations", -1) + 1
        if self.evaluations == self.asked_while_evaluating:
            self.ask()
        return super().evaluate()

    def ask(self) -> None:
        for number in self.asks:
            os.kill(os.getpid(), number)


def interrupted(settings: Training, mixture: dict[str, object] | None = None, **when: object) -> Interrupted:
    learner = pair_of_tasks(settings, **(mixture or {}))
    learner.__class__ = Interrupted
    assert isinstance(learner, Interrupted)
    for name, value in when.items():
        setattr(learner, name, value)
    return learner
