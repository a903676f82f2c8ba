"""A stage ends when the DVC that started it is gone.

Killed alone, DVC leaves its stage running: it would write its outputs later, beside those of the next `dvc repro`. The
signal that Linux sends a child when its parent ends does not reach a stage behind a shell, so the stage looks itself.
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

SECONDS_BETWEEN_LOOKS = 1.0


def end_with_dvc() -> None:
    """Watches the DVC above this process, if there is one; when it is gone, this process gets SIGTERM."""
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
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os.kill(os.getpid(), signal.SIGTERM)


def _lives(process: psutil.Process) -> bool:
    """Also false for one that ended and whose parent has not heard of it yet."""
    import psutil

    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
