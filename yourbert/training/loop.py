"""The training loop: take a step, note, and at an epoch's end evaluate and keep the best weights.

One loop serves fine-tuning on one task, on a mixture, and masked-language-model training: what differs is the
`Learner`, which makes the losses of a step and the dev scores, and the `Stepper`, which takes it
(`yourbert/training/steps.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict
from itertools import accumulate

import torch
from torch import Tensor, nn

from yourbert.config.schema import Training
from yourbert.runtime.distributed import ALONE, Gradients, Ranks
from yourbert.runtime.meter import Meter
from yourbert.runtime.progress import Progress
from yourbert.training.averaging import Average
from yourbert.training.checkpoint import Resume
from yourbert.training.history import Outcome
from yourbert.training.optimizer import adamw
from yourbert.training.signals import Stop
from yourbert.training.steps import Learner, OneByOne, Run, Stepper, mean_loss

LOGGER = logging.getLogger("yourbert")


def train(
    name: str,
    learner: Learner,
    settings: Training,
    resume: Resume,
    stepper_of: Callable[[Run], Stepper] | None = None,
    ranks: Ranks = ALONE,
) -> Outcome:
    """Trains `learner.model` in place and leaves it with the weights of the best epoch. Raises UserError (T01, X01).

    Asked to stop, it saves where it stands and ends; of several ranks each ends at once.
    stepper_of: who computes the steps; `OneByOne` where nobody else does. ranks: those that train this model together.
    """
    return _Loop(name, learner, settings, resume, stepper_of or OneByOne, ranks).run()


class _Loop:
    """The loop and what it carries from step to step: all that is not the same after an interruption unless saved."""

    def __init__(
        self,
        name: str,
        learner: Learner,
        settings: Training,
        resume: Resume,
        stepper_of: Callable[[Run], Stepper],
        ranks: Ranks,
    ) -> None:
        self.learner, self.settings, self.resume, self.ranks = learner, settings, resume, ranks
        self.learning = {n: p for n, p in learner.model.named_parameters() if p.requires_grad}
        self.optimizer = adamw(self.learning.values(), settings.weight_decay)
        self.ends = list(accumulate(learner.steps(epoch) for epoch in range(settings.epochs)))
        steps = self.ends[-1]
        self.gradients = Gradients(self.learning.values(), ranks)
        ranks.agree("the resume state", resume.saved_bytes())
        self.average = Average(self.learning, settings.average)
        self.best, self.outcome = _copy(self.learning), Outcome(steps)
        self._go_on(name)
        run = Run(name, learner, settings, self.learning, self.optimizer, self.gradients, steps, self.outcome.spikes)
        self.stepper = stepper_of(run)
        self.progress = Progress(name, steps, self.outcome.steps_done, shown=ranks.leads)
        self.cost_before = self.outcome.cost
        self.meter = Meter(next(iter(self.learning.values())).device, ranks)

    def run(self) -> Outcome:
        outcome, settings = self.outcome, self.settings
        with Stop(obeys=self.ranks.world == 1) as stop:
            while not self._done():
                self._epoch(stop)
                self._evaluate(stop)
                if self._done() and settings.soup > 1 and self.resume.leads:
                    # Other models follow; a run that is cut off in one of them must not train this one again.
                    self._save()
        self.progress.close()
        self.gradients.close()
        _put(self.learning, self.best)
        outcome.parameters, outcome.pieces = sum(p.numel() for p in self.learning.values()), self.learner.pieces
        self.progress.kept(outcome.best_epoch, outcome.epoch)
        return outcome

    def _done(self) -> bool:
        outcome, settings = self.outcome, self.settings
        return outcome.epoch >= settings.epochs or 0 < settings.patience <= outcome.stale

    def _epoch(self, stop: Stop) -> None:
        """The steps of an epoch that are left."""
        outcome, stepper = self.outcome, self.stepper
        self.learner.model.train()
        if self.optimizer.fusion:
            self.optimizer.fusion.refresh()
        stepper.begin(outcome.epoch, outcome.steps_done, outcome.sums)
        while outcome.steps_done < self.ends[outcome.epoch]:
            rows, tokens = stepper.step()
            outcome.steps_done += 1
            outcome.tokens += tokens
            self.average.follow(outcome.steps_done)
            self.progress.advance(rows, lambda: mean_loss(stepper.sums()))
            self.meter.tick()
            if stop.asked:
                self._save()
                stop.end()
            if self.resume.due():
                self._save()

    def _evaluate(self, stop: Stop) -> None:
        """Ends an epoch: evaluates, and keeps the weights when they are the best so far."""
        outcome, sums = self.outcome, self.stepper.sums()
        self.learner.model.eval()
        try:
            with self.average.in_place(), stop.at_once():
                scores = self.learner.evaluate()
        except (KeyboardInterrupt, SystemExit):
            self._save()
            raise
        outcome.note(
            scores, self.learner.aggregate(scores), {task: total / rows for task, (total, rows) in sums.items()}
        )
        if outcome.best_epoch == outcome.epoch:
            with self.average.in_place():
                self.best = _copy(self.learning)
        self.progress.evaluated(outcome.epoch, mean_loss(sums), scores)
        outcome.cost = self.cost_before + self.meter.read()

    def _save(self) -> None:
        self.outcome.sums, self.outcome.pieces = self.stepper.sums(), self.learner.pieces
        if self.ranks.world == 1:
            # Only the first of several ranks comes here, and all of them would have to ask.
            self.outcome.cost = self.cost_before + self.meter.read()
        kept = {"best": self.best, "average": self.average.weights}
        self.resume.save(self.learning, self.optimizer, kept, asdict(self.outcome))

    def _go_on(self, name: str) -> None:
        """Takes up what an interrupted run saved, if it did."""
        saved = self.resume.load(self.learning, self.optimizer)
        if saved is not None:
            kept, history = saved
            self.best, self.average.weights = kept["best"], kept.get("average", {})
            self.outcome = Outcome.from_json(history)
            self.learner.pieces = self.outcome.pieces
            if self.ranks.leads:
                LOGGER.info("%s: goes on from step %d of %d", name, self.outcome.steps_done, self.ends[-1])


def _copy(learning: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in learning.items()}


def _put(learning: dict[str, nn.Parameter], weights: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, p in learning.items():
            p.copy_(weights[name])
