"""The start of a program, a stage or the command `yourbert`: settings that must precede the import of torch.

Only programs call this; importing the library changes neither the environment nor logging.
"""

from __future__ import annotations

import logging
import os
import sys


def start() -> None:
    """Prepares this process: OpenMP threads that sleep while they wait, and log lines on stderr."""
    let_threads_sleep()
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    # It logs every request.
    logging.getLogger("httpx").setLevel(logging.WARNING)


def let_threads_sleep() -> None:
    """Makes waiting OpenMP threads sleep after a short spin; has no effect after the import of torch.

    By default they spin for milliseconds, which makes training 5 to 9 times slower beside another busy program. A spin
    of about 0.1 ms keeps the full speed on an idle machine (LOG.md, "Spinning threads").
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
