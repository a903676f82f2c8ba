"""Averaged weights: over a training's last steps, evaluated and kept instead of the last ones, and over several models.

The last weights of a run carry the noise of its last batches; their average over the last steps does not (Polyak and
Juditsky 1992; Tarvainen and Valpola 2017, whose growing decay lets an average begin with the first steps). Models that
were tailored from the same weights lie near enough to each other for their mean to be one, too, and without the luck of
any one's order of rows (Wortsman et al. 2022, "Model soups").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

# Averaging costs a pass over the weights; every fourth step gives the same average within a percent of its horizon.
STEPS_BETWEEN = 4
M = TypeVar("M", bound=nn.Module)


class Average:
    """average <- decay * average + (1 - decay) * weights, once a step; a decay of 0 keeps the weights themselves."""

    def __init__(self, learning: Mapping[str, nn.Parameter], decay: float) -> None:
        self.learning, self.decay = learning, decay
        self.weights = {name: p.detach().clone() for name, p in learning.items()} if decay else {}

    @torch.no_grad()
    def follow(self, steps_done: int) -> None:
        """To be called after each step of the run, with the number of all so far."""
        if self.decay and steps_done % STEPS_BETWEEN == 0:
            decay = min(self.decay, (1 + steps_done) / (10 + steps_done)) ** STEPS_BETWEEN
            averages = [self.weights[name] for name in self.learning]
            torch._foreach_lerp_(averages, [p.detach() for p in self.learning.values()], 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within, the model has the average for its weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, average in self.weights.items():
            p = self.learning[name]
            last = p.detach().clone()
            p.copy_(average)
            average.copy_(last)


def mean_of_models(models: Iterable[M]) -> M:
    """The first of the models, alike but for their weights, with the mean of all; weights that are equal stay as is.

    Takes them one by one: no more than two need be there at a time, and each may be trained when it is asked for.
    """
    rest = iter(models)
    mean = next(rest)
    for number, model in enumerate(rest, 2):
        with torch.no_grad():
            for kept, added in zip(mean.parameters(), model.parameters(), strict=True):
                kept.lerp_(added, 1 / number)
    return mean
