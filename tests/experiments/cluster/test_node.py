"""An experiment on another machine: the transfer there and back, and failures."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from yourbert.experiments.cluster import node
from yourbert.experiments.cluster.node import ExperimentJob, JobResult, RetryableError
from yourbert.experiments.cluster.repository import (
    bundle_repository,
    finished,
    import_result,
    scores,
    starting_commit,
)
from yourbert.experiments.git import experiment_ref, git

pytestmark = pytest.mark.integration


@pytest.fixture
def machine(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where another machine keeps what it needs. On it, DVC is the program written to the file `dvc.py` there."""
    folder = tmp_path / "machine"
    folder.mkdir()
    monkeypatch.setenv("YOURBERT_CACHE", str(folder))
    monkeypatch.setattr(node, "node_name", lambda: "machine")
    monkeypatch.setattr(node, "DVC", (str(folder / "dvc.py"),))
    return folder


def run(machine: Path, name: str, dvc: str) -> JobResult:
    (machine / "dvc.py").write_text(dvc)
    return node.run(
        ExperimentJob(name, starting_commit(), ("++lr=1.0",), ("evaluate",), models_remote=""), bundle_repository()
    )


def clones(machine: Path) -> list[Path]:
    return list((machine / "cluster/runs").iterdir())


COMMITS = """
import pathlib, subprocess, sys
def git(*words):
    return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout.strip()
if sys.argv[1:3] == ["exp", "run"]:
    words = sys.argv[3:]
    name, setting = words[words.index("--name") + 1], words[words.index("--set-param") + 1]
    assert words[-1] == "evaluate"
    assert pathlib.Path(".dvc/config.local").read_text().endswith("/machine/cluster/cache\\n")
    start = git("rev-parse", "HEAD")
    pathlib.Path("metrics/runs/sst/1.json").write_text('{"overall": {"dev": ' + setting.partition("=")[2] + "}}")
    git("commit", "--quiet", "--all", "--message", "experiment")
    git("update-ref", f"refs/exps/{start[:2]}/{start[2:]}/{name}", "HEAD")
"""


def test_an_experiment_comes_back_as_a_commit(project: Path, machine: Path) -> None:
    before = git("status", "--porcelain"), git("rev-parse", "HEAD"), git("branch", "--all")
    outcome = run(machine, "one", COMMITS)
    start = starting_commit()
    assert finished(start) == set()
    import_result(outcome.bundle, start, "one")
    assert finished(start) == {"one"}
    assert git("rev-parse", f"{experiment_ref(start, 'one')}~").decode().strip() == start
    assert (git("status", "--porcelain"), git("rev-parse", "HEAD"), git("branch", "--all")) == before
    assert scores(start, ["one"], targets=False) == {"one": {"sst/1": 1.0, "sts": 0.5}}
    assert scores(start, ["one"], targets=True) == {"one": {"sst/1": 1.0}}, "sts was not run"
    assert clones(machine) == []


def test_a_cache_in_the_machines_config_is_used(project: Path, machine: Path) -> None:
    named = 'if sys.argv[1:] == ["config", "cache.dir"]:\n    print("/shared/cache")\n'
    asserts = '    assert not pathlib.Path(".dvc/config.local").exists()\n'
    own = [line for line in COMMITS.splitlines(keepends=True) if "config.local" in line]
    assert run(machine, "one", COMMITS.replace(own[0], asserts) + named).bundle


def test_a_run_that_was_killed_is_tried_again_with_its_resume_state(project: Path, machine: Path) -> None:
    killed = """
import os, pathlib, signal, sys
if sys.argv[1] == "exp":
    pathlib.Path(".yourbert/resume").mkdir(parents=True)
    pathlib.Path(".yourbert/resume/state").write_text("half")
    pathlib.Path("build").mkdir()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    with pytest.raises(RetryableError) as caught:
        run(machine, "one", killed)
    assert caught.value.args[:2] == ("machine", f"dvc ended with exit code {128 + signal.SIGKILL}")
    again = 'assert pathlib.Path(".yourbert/resume/state").exists() and not pathlib.Path("build").exists()\n'
    assert run(machine, "one", COMMITS.replace("def git", f"{again}def git")).bundle


@pytest.mark.parametrize(
    ("printed", "mistake"),
    [
        ("YB-T01 step 3: the gradient is not finite. Fix: lower lr.", True),
        ("YB-D16 data/x.csv:3: 'y' is no label.", True),
        ("YB-R07 build: cannot write: No space left on device.", False),
        ("YB-W03 org/name: no mirror has it.", False),
        ("ERROR: failed to pull data from the cloud", False),
    ],
)
def test_only_transient_failures_are_retried(project: Path, machine: Path, printed: str, mistake: bool) -> None:
    fails = f"import sys\nprint({printed!r})\nsys.exit(sys.argv[1] == 'exp')"
    try:
        outcome = run(machine, "one", fails)
        assert mistake, "it was not tried again"
        assert not outcome.bundle
        problem = outcome.problem
    except RetryableError as again:
        assert not mistake
        _, problem, _ = again.args
    assert problem == printed.removeprefix("ERROR: ")
