"""A sweep over two Ray nodes, one of which is killed: every experiment ends up in the repository that asked for it."""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.pipeline.conftest import Project
from tests.support.commands import YOURBERT

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra cluster"),
]
SECONDS = 600
RATES = "lr=3e-3,1e-2,1e-4"
# Holds two Ray nodes of one processor each until its standard input ends. The loopback is the only address they have.
HOST = """
import sys
from ray.cluster_utils import Cluster
first, second = sys.argv[1:]
cluster = Cluster()
common = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "include_dashboard": False}
soon = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000}
cluster.add_node(**common, env_vars={"YOURBERT_CACHE": first}, _system_config=soon)
node = cluster.add_node(**common, env_vars={"YOURBERT_CACHE": second})
print("at", cluster.address, node.all_processes["raylet"][0].process.pid, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@dataclass
class Nodes:
    """The address of two Ray nodes, what finds them in its environment, and the cache folder of each node."""

    address: str
    env: dict[str, str]
    caches: tuple[Path, Path]
    second_raylet: int

    def logs(self, node: int) -> dict[str, str]:
        """Experiment -> what it has printed on a node, 0 or 1."""
        paths = (self.caches[node] / "cluster" / "logs").glob("*.log")
        return {path.stem.partition("-")[2]: path.read_text(errors="replace") for path in paths}

    def kill_second(self) -> None:
        """Kills the node at once with its workers; what those had started must end of itself."""
        raylet = psutil.Process(self.second_raylet)
        workers, all_below = raylet.children(), raylet.children(recursive=True)
        assert len(all_below) > len(workers)
        for process in (raylet, *workers):
            process.kill()
        end = time.monotonic() + SECONDS
        while not all(map(gone, all_below)):
            assert time.monotonic() < end, "a run outlived its node"
            time.sleep(0.05)


def gone(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    """Two nodes behind a token of this test; they end with the process that holds them."""
    folder = tempfile.mkdtemp(prefix="ray")  # short: the path of a Unix socket may have 107 characters
    caches = (tmp_path / "first", tmp_path / "second")
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "RAY_TMPDIR": folder}
    env |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    env["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # or Ray replaces the loopback address by an outward one
    words = [sys.executable, "-c", HOST, *map(str, caches)]
    with subprocess.Popen(words, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdin is not None and host.stdout is not None
        try:
            found = next(line.split() for line in host.stdout if line.startswith("at "))
            yield Nodes(found[1], env, caches, int(found[2]))
        finally:
            host.stdin.close()
            host.wait(SECONDS)
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def shared(project: Project, nodes: Nodes, tmp_path: Path) -> Project:
    """A reproduced project whose data lie in a folder as remote; the nodes' caches hold what it has made so far."""
    project.dvc("remote", "add", "--default", "folder", str(tmp_path / "remote"))
    project.dvc("push", "data.dvc")
    project.git("commit", "--quiet", "--all", "--message", "remote")
    for cache in nodes.caches:
        shutil.copytree(project.root / ".dvc" / "cache", cache / "cluster" / "cache")
    return project


@dataclass
class Sweep:
    """The command as a person types it; nothing of it can hang for longer than `SECONDS`."""

    project: Project
    env: dict[str, str]

    def start(self, address: str, *settings: str) -> subprocess.Popen[str]:
        words = [word for setting in settings for word in ("--set", setting)]
        words += ["--targets", "evaluate@sst-11711", "--keep-models", "folder", "--ray", address]
        return subprocess.Popen(
            [*YOURBERT, "search", *words],
            cwd=self.project.root,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self, process: subprocess.Popen[str]) -> str:
        try:
            return process.communicate(timeout=SECONDS)[0]
        finally:
            process.kill()


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + SECONDS
    while not what():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            pytest.fail(process.communicate()[0])
        time.sleep(0.05)


def experiments(project: Project) -> dict[str, tuple[str, Any]]:
    """Name -> commit and parameters, as `dvc exp show` tells them."""
    rows = json.loads(project.dvc("exp", "show", "--json"))
    found = [e["revs"][0] for row in rows for e in row.get("experiments") or []]
    return {e["name"]: (e["rev"], e["data"]["params"]["params.yaml"]["data"]) for e in found}


def results(project: Project, commit: str) -> str:
    """Scores and learning curve; two learning rates may share the scores of so small a model, but no curve."""
    files = ("metrics/runs/sst/11711.json", "plots/curves/sst/11711.csv")
    return "".join(project.git("show", f"{commit}:{file}") for file in files)


def test_a_killed_node_loses_nothing(shared: Project, nodes: Nodes) -> None:
    sweep = Sweep(shared, nodes.env)
    process = sweep.start(nodes.address, RATES)
    wait_for(lambda: "Running stage 'finetune@sst" in "".join(nodes.logs(1).values()), process)
    nodes.kill_second()
    shown = sweep.end(process)
    assert process.returncode == 0, shown
    (cut_off,) = [name for name, log in nodes.logs(1).items() if "Ran experiment" not in log]
    assert "Ran experiment" in nodes.logs(0)[cut_off], "the other node did it again"
    here = experiments(shared)
    assert sorted(params["lr"] for _, params in here.values()) == [1e-4, 3e-3, 1e-2], shown
    assert len({results(shared, commit) for commit, _ in here.values()}) == 3
    assert shared.git("status", "--porcelain").split() == ["??", "report/search.csv", "??", "report/search.svg"]

    # Made here alone, it comes out the same.
    shared.dvc("exp", "run", "--temp", "--name", "alone", "-S", f"lr={here[cut_off][1]['lr']}", "evaluate@sst-11711")
    assert results(shared, here[cut_off][0]) == results(shared, experiments(shared)["alone"][0])

    # Nothing is left to run, so no cluster is looked for.
    process = sweep.start("127.0.0.1:1", RATES)
    assert sweep.end(process).count("  search-") == 3
    assert process.returncode == 0

    # A part fails, on the node that is left: it is told, with its reason, and leaves no experiment.
    process = sweep.start(nodes.address, "lr=1e-2", "tasks.sst.data.label=sentiment,feeling")
    shown = sweep.end(process)
    assert process.returncode == 1
    assert "1 experiments to run" in shown and shown.count("  failed  ") == 1, shown
    assert "YB-D12" in shown
    assert "Traceback" not in shown
    (log,) = (shared.root / ".yourbert" / "cluster").iterdir()
    assert "YB-D12" in log.read_text()
    assert experiments(shared).keys() == {*here, "alone"}

    # A model comes from the remote alone.
    shutil.rmtree(shared.root / ".dvc" / "cache")
    shared("python", "-m", "dvc", "exp", "apply", cut_off)
    shared.dvc("pull", "build/models/sst/11711")
    assert (shared.root / "build/models/sst/11711/model.safetensors").is_file()
