"""Nothing is touched while somebody works there."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.doctor.conftest import empty_rwlock
from yourbert.core.errors import UserError
from yourbert.doctor.run import doctor

pytestmark = pytest.mark.integration


def test_nothing_is_touched_while_dvc_runs(root: Path) -> None:
    empty_rwlock(root)
    with (root / ".dvc/tmp/lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match=r"B10.*a dvc command is using this project"):
            doctor(root, fix=True)
    assert doctor(root, fix=True) == 0


def test_nothing_is_touched_while_an_owner_of_the_rwlock_lives(root: Path) -> None:
    info = {"pid": os.getpid(), "cmd": "dvc repro"}
    (root / ".dvc/tmp/rwlock").write_text(json.dumps({"write": {"x": info}, "read": {"y": [info]}}))
    with pytest.raises(UserError, match=rf"B10.*process {os.getpid()} \(dvc repro\) is using this project"):
        doctor(root, fix=True)


def test_an_orphan_that_still_trains_is_an_owner(root: Path) -> None:
    (root / "stages").mkdir()
    (root / "stages" / "finetune.py").write_text("import time\ntime.sleep(60)\n")
    orphan = subprocess.Popen([sys.executable, "-m", "stages.finetune", "sst", "1"], cwd=root)
    try:
        while "stages.finetune" not in psutil.Process(orphan.pid).cmdline():  # its program is not loaded yet
            time.sleep(0.05)
        with pytest.raises(UserError, match=rf"process {orphan.pid} \(-m stages.finetune sst 1\)"):
            doctor(root, fix=True)
    finally:
        orphan.kill()
        orphan.wait()
    assert doctor(root, fix=True) == 0
