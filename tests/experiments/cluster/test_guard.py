"""A guarded command ends with its parent process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from yourbert.experiments.cluster import guard

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("guard_first", [False, True])
def test_a_command_ends_with_who_started_it(guard_first: bool) -> None:
    """Of four processes, each started by the one before, the first is killed; the last has our pipe while it lives."""
    sleeps = "import subprocess; subprocess.run(['sh', '-c', 'echo 1; exec sleep 600'])"
    starts = (
        "import subprocess, sys; run = subprocess.Popen([sys.executable, '-I', *sys.argv[1:]], "
        "stdin=subprocess.PIPE, start_new_session=True); print(run.pid, flush=True); run.wait(); input()"
    )
    words = [sys.executable, "-c", starts, guard.__file__, sys.executable, "-c", sleeps]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        guarding = int(process.stdout.readline())
        assert process.stdout.readline() == b"1\n"
        if guard_first:  # as Ray does
            os.kill(guarding, signal.SIGKILL)
        process.kill()
        assert process.communicate(timeout=60)[0] == b""


@pytest.mark.parametrize(("ends", "code"), [("sys.exit(3)", 3), ("os.kill(os.getpid(), 9)", 137), ("", 0)])
def test_the_guard_ends_as_its_command(ends: str, code: int) -> None:
    words = [sys.executable, "-I", guard.__file__, sys.executable, "-c", f"import os, sys; {ends}"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True) as process:
        assert process.wait(timeout=60) == code
