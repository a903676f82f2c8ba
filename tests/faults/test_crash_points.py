"""Whatever is the last thing that reached the disk, the same stage again ends in the same bytes.

Every N-th operation is tried, as SQLite's authors do, not some at random; a few of them here, all behind the slow mark.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from tests.support.closure import ROOT
from tests.support.crash_points import STAGES

pytestmark = pytest.mark.integration


def struck(folder: Path, mode: str, first: int, stride: int) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "tests.support.crash_points", str(folder), mode, str(first), str(stride), *STAGES]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("first", "stride"), [pytest.param(2, 43, id="some"), pytest.param(1, 1, id="all", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("mode", ["crash", "enospc", pytest.param("efbig", marks=pytest.mark.slow)])
def test_the_same_stage_again_ends_in_the_same_bytes(
    tmp_path: Path, mode: str, first: int, stride: int, figure: Callable[[object], None]
) -> None:
    found = struck(tmp_path, mode, first, stride)
    assert [one for one in found if one["again"] != 0 or one["differs"]] == []
    assert {one["struck"] for one in found} == {137 if mode == "crash" else 7}
    assert mode == "crash" or not any(one["parts"] for one in found), "a refused write leaves nothing half written"
    figure(f"{mode} at {len(found)} operations: the same bytes each time")
    of = {stage: list(rows) for stage, rows in groupby(found, lambda one: one["stage"])}
    assert of.keys() == STAGES.keys()
    for rows in of.values():
        assert len(rows) == len(range(first, rows[0]["of"] + 1, stride))
    assert sum(rows[0]["of"] for rows in of.values()) > 150
