"""A stage ends when the DVC process that started it is gone.

If only DVC is killed, its stage keeps running and would write its outputs later, while the next `dvc repro` runs.
Linux can signal a child when its parent ends (PR_SET_PDEATHSIG), but DVC starts a stage through a shell, which would be
that parent; so the stage polls.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

POLL_INTERVAL_S = 1.0


def end_with_dvc() -> None:
    """Watches the DVC process above this one, if there is one; when it is gone, sends SIGTERM to this process."""
    if "DVC_ROOT" not in os.environ:
        return
    import psutil

    for process in psutil.Process().parents():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if any(Path(word).name == "dvc" for word in words[:3]):
            threading.Thread(target=_watch, args=(process,), daemon=True).start()
            return


def _watch(dvc: psutil.Process) -> None:
    while _lives(dvc):
        time.sleep(POLL_INTERVAL_S)
    os.kill(os.getpid(), signal.SIGTERM)


def _lives(process: psutil.Process) -> bool:
    """Whether a process runs; a zombie, which has ended but was not waited for, does not."""
    import psutil

    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
