"""The running average of a training's weights, which is evaluated and kept instead of the last ones.

The last weights of a run carry the noise of its last batches; their average over the last steps does not (Polyak and
Juditsky 1992; Tarvainen and Valpola 2017, whose growing decay lets an average begin with the first steps).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

# Averaging costs a pass over the weights; every fourth step gives the same average within a percent of its horizon.
STEPS_BETWEEN = 4


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
