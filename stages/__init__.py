"""One thin file per pipeline stage: read params and inputs, make one library call, write outputs."""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from yourbert.errors import exit_cleanly

# A waiting thread should soon go to sleep: by default it spins for milliseconds, and beside any other busy program
# training becomes 5 to 9 times slower. About 0.1 ms of spinning keeps all the speed of an idle machine.
# OpenMP reads this when torch is imported, so it is set here, before anything is.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

BUILD = Path("build")
METRICS = Path("metrics")
PLOTS = Path("plots")


def run(stage: Callable[..., None]) -> None:
    """Runs a stage with the words of its command line; a user's mistake ends it with one line and an exit code."""
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    exit_cleanly(lambda: stage(*sys.argv[1:]))
