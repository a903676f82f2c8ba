"""One thin file per pipeline stage: read params and inputs, make one library call, write outputs."""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from yourbert.errors import exit_cleanly

# Threads that wait must sleep, not spin: beside any other busy program spinning makes training 5 to 9 times slower.
# OpenMP reads this when torch is imported, so it is set here, before anything is.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

BUILD = Path("build")
METRICS = Path("metrics")
PLOTS = Path("plots")


def run(stage: Callable[..., None]) -> None:
    """Runs a stage with the words of its command line; a user's mistake ends it with one line and an exit code."""
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    exit_cleanly(lambda: stage(*sys.argv[1:]))
