"""A stage whose DVC is killed ends; one that has no DVC above it is left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.integration

STAGE = """
import time
from yourbert.core.errors import exit_cleanly
from yourbert.core.watchdog import end_with_dvc

def program():
    end_with_dvc()
    print("ready", flush=True)
    time.sleep(60)

exit_cleanly(program)
"""
DVC = """
import subprocess, sys
child = subprocess.Popen(sys.argv[1], shell=True)
print(child.pid, flush=True)
child.wait()
"""


@pytest.mark.parametrize("shell", ["", "true; "], ids=["alone", "behind a shell"])
@pytest.mark.parametrize("name", ["dvc", "make"])
def test_a_stage_ends_when_its_dvc_is_killed(tmp_path: Path, name: str, shell: str) -> None:
    (tmp_path / name).write_text(DVC)
    (tmp_path / "stage.py").write_text(STAGE)
    command = f"{shell}{sys.executable} {tmp_path / 'stage.py'}; true"
    parent = subprocess.Popen(
        [sys.executable, tmp_path / name, command],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "DVC_ROOT": str(tmp_path)},
    )  # fmt: skip
    assert parent.stdout is not None
    said = {parent.stdout.readline().strip() for _ in range(2)}
    assert "ready" in said
    stage = next(
        p for p in psutil.Process(parent.pid).children(recursive=True) if "stage.py" in " ".join(p.cmdline()[1:2])
    )
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    end = time.monotonic() + (10 if name == "dvc" else 3)
    while stage.is_running() and time.monotonic() < end:
        time.sleep(0.1)
    assert stage.is_running() == (name != "dvc")
    if stage.is_running():
        stage.kill()
