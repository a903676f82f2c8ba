"""Progress of a run: a progress bar on a terminal, log lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping

from tqdm import tqdm

logger = logging.getLogger("yourbert")
SECONDS_BETWEEN_LINES = 20.0
SECONDS_BETWEEN_REDRAWS = 0.5


class RowProgress:
    """Counts processed rows, of `total` if that is known, and shows rows per second."""

    def __init__(self, name: str, total: int | None) -> None:
        self.name, self.total, self.rows = name, total, 0
        self._start = self._told = time.monotonic()
        self._bar = tqdm(total=total, desc=name, unit="row") if sys.stderr.isatty() else None

    def advance(self, rows: int) -> None:
        self.rows += rows
        if self._bar is not None:
            self._bar.update(rows)
        elif self.rows != self.total and time.monotonic() - self._told >= SECONDS_BETWEEN_LINES:
            self._told = time.monotonic()
            of = "" if self.total is None else f"/{self.total}"
            logger.info("%s: row %d%s, %.0f rows/s", self.name, self.rows, of, self.speed())

    def speed(self) -> float:
        return self.rows / max(1e-9, time.monotonic() - self._start)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class Progress:
    """Counts steps and rows of one run; shows loss, dev score, rows per second and the remaining time.

    shown: False if another rank shows the same run.
    """

    def __init__(self, name: str, steps: int, done: int = 0, shown: bool = True) -> None:
        self.name, self.steps, self.step = name, steps, done
        self.rows = 0
        self.dev = ""
        self.shown = shown
        self._first = done
        self._start = self._told = time.monotonic()
        self._bar = tqdm(total=steps, initial=done, desc=name, unit="step") if shown and sys.stderr.isatty() else None

    def advance(self, rows: int, loss: Callable[[], float]) -> None:
        """Counts a step. `loss` is called only when it is shown, because it waits for the GPU."""
        self.step += 1
        self.rows += rows
        waited = time.monotonic() - self._told
        if self._bar is not None:
            self._bar.update()
            if waited >= SECONDS_BETWEEN_REDRAWS:
                self._told = time.monotonic()
                self._bar.set_postfix_str(f"loss {loss():.3f}{self.dev}, {self._speed():.0f} rows/s", refresh=False)
        elif self.shown and waited >= SECONDS_BETWEEN_LINES:
            self._tell(loss())

    def evaluated(self, epoch: int, loss: float, dev: Mapping[str, float]) -> None:
        """Shows the dev scores after an epoch, counted from 1."""
        scores = ", ".join(f"{name} {score:.4f}" for name, score in dev.items())
        self.dev = f", dev {scores}"
        line = f"{self.name}: epoch {epoch}, step {self.step}/{self.steps}, loss {loss:.4f}, dev {scores}"
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        elif self.shown:
            logger.info("%s, %.0f rows/s", line, self._speed())

    def kept(self, best: int, epochs: int) -> None:
        """Logs the epoch whose weights are kept, unless it is the last one."""
        if self.shown and best < epochs:
            after = "; the dev score did not improve after the first" if best == 1 else ""
            logger.info("%s: the weights of epoch %d of %d are kept%s", self.name, best, epochs, after)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _speed(self) -> float:
        return self.rows / max(1e-9, time.monotonic() - self._start)

    def _tell(self, loss: float) -> None:
        self._told = time.monotonic()
        left = (self._told - self._start) / (self.step - self._first) * (self.steps - self.step)
        logger.info(
            "%s: step %d/%d, loss %.3f%s, %.0f rows/s, %d s left",
            *(self.name, self.step, self.steps, loss, self.dev, self._speed(), left),
        )
