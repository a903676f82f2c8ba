"""A stop watch for trainers that run their own loop: from the end of the last warm-up step to the end of the last step.

So a peer's bookkeeping between its steps counts, as it does for YourBERT, and its set-up and farewell do not.
"""

from __future__ import annotations

import time
from typing import Any

from transformers import TrainerCallback

from benchmarks.cost import synchronise


class StepClock(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    def __init__(self, warmup: int, steps: int, device: str) -> None:
        self.warmup, self.last, self.device = warmup, warmup + steps, device
        self.started = self.seconds = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if state.global_step in (self.warmup, self.last):
            synchronise(self.device)
            now = time.perf_counter()
            if state.global_step == self.warmup:
                self.started = now
            else:
                self.seconds = now - self.started
