"""One thin file per pipeline stage: read params and inputs, make one library call, write outputs."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path

from yourbert.errors import exit_cleanly

BUILD = Path("build")
METRICS = Path("metrics")
PLOTS = Path("plots")


def run(stage: Callable[..., None]) -> None:
    """Runs a stage with the words of its command line; a user's mistake ends it with one line and an exit code."""
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    exit_cleanly(lambda: stage(*sys.argv[1:]))
