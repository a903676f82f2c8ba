"""How a program of ours starts, a stage or the command `yourbert`: what must be set before torch is imported.

Only a program of ours calls this: importing the library changes no environment and no log.
"""

from __future__ import annotations

import logging
import os
import sys


def start() -> None:
    """Prepares this process: threads that sleep, and a log of plain lines on stderr."""
    let_threads_sleep()
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    # It tells of every request.
    logging.getLogger("httpx").setLevel(logging.WARNING)


def let_threads_sleep() -> None:
    """Has a waiting thread of OpenMP go to sleep soon; without effect once torch is imported, which reads it.

    By default such a thread spins for milliseconds, and beside any other busy program training becomes 5 to 9 times
    slower. About 0.1 ms of spinning keeps all the speed of an idle machine (LOG.md, "Spinning threads").
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
