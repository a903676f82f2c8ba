"""A whole `dvc repro` killed at random, again and again: the doctor mends what is left, nothing differs at the end."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pipeline.conftest import Project, make_project

pytestmark = pytest.mark.integration

KILLS = int(os.environ.get("YOURBERT_KILLS", "200"))
LONGEST = 12.0  # seconds until a kill


def made(project: Project) -> dict[str, str]:
    """The hashes of what a repro makes, but for what holds seconds."""
    folders = ("build/models", "build/predictions", "build/tokens", "metrics/runs", "metrics/data", "plots")
    files = sorted(p for folder in folders for p in (project.root / folder).rglob("*") if p.is_file())
    return {p.relative_to(project.root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def copied(project: Project, place: Path) -> Project:
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(project.root, place, symlinks=True)
    return Project(place)


def killed(project: Project, seconds: float) -> bool:
    """Starts a repro and kills all of it; False where it was done before, and well."""
    repro = project.start(sys.executable, "-m", "dvc", "repro")
    try:
        _, told = repro.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(repro.pid, signal.SIGKILL)
        repro.communicate()
        return True
    assert repro.returncode == 0, told
    return False


@pytest.mark.slow
def test_killed_at_random_it_is_mended_and_ends_in_the_same_bytes(
    tmp_path: Path, figure: Callable[[object], None]
) -> None:
    start, chance = make_project(tmp_path / "start"), random.Random(1)
    whole = copied(start, tmp_path / "whole")
    whole.dvc("repro")
    expected = made(whole)
    project, kills, mended = copied(start, tmp_path / "project"), 0, Counter[str]()
    while kills < KILLS:
        if killed(project, chance.uniform(0.3, LONGEST)):
            kills += 1
            doctor = project("yourbert", "doctor", "--fix")
            assert doctor.returncode == 0, doctor.stdout + doctor.stderr
            mended.update(line.split(" ")[0] for line in doctor.stdout.splitlines() if line.startswith("YB-"))
        else:
            assert made(project) == expected
            project = copied(start, tmp_path / "project")
    project.dvc("repro")
    assert made(project) == expected
    figure(f"{kills} kills; the doctor mended {dict(mended)}")
