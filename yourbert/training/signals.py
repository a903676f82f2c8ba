"""Graceful shutdown on Ctrl-C or SIGTERM.

A training finishes its step, saves its state, and exits as it would have: Ctrl-C as an interrupt, SIGTERM with exit
code 143. A second signal ends it at once, and so does one during an evaluation, where nothing can be lost.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

logger = logging.getLogger("yourbert")
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Within the `with` block the signals are recorded instead of ending the program; main thread only."""

    def __init__(self, obeys: bool = True) -> None:
        self.asked: int | None = None
        self._obeys = obeys and threading.current_thread() is threading.main_thread()
        self._at_once = False

    def __enter__(self) -> Stop:
        if self._obeys:
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._obeys:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within, a signal ends the program immediately."""
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def end(self) -> None:
        """Ends the program as the recorded signal would have."""
        if self.asked == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + (self.asked or signal.SIGTERM))

    def _note(self, number: int, frame: FrameType | None) -> None:
        again, self.asked = self.asked is not None, number
        if again or self._at_once:
            self.end()
        logger.info("stopping after this step; press again to stop at once")
