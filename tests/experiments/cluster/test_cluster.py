"""Experiments, their way from one repository through another machine's folder and back, and their failures.

DVC itself is replaced by small programs here; tests/pipeline/test_sweep.py has the whole with DVC, Ray and two nodes.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from yourbert.core.errors import UserError
from yourbert.experiments.cluster import guard, node
from yourbert.experiments.cluster.node import Job, Outcome, TryAgain
from yourbert.experiments.cluster.repository import check_remote, finished, scores, starting_commit, take_in
from yourbert.experiments.cluster.repository import whole as whole_repository
from yourbert.experiments.cluster.sweep import sweep
from yourbert.experiments.git import experiment_ref, git


@pytest.fixture
def machine(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where another machine keeps what it needs. On it, DVC is the program written to the file `dvc.py` there."""
    folder = tmp_path / "machine"
    folder.mkdir()
    monkeypatch.setenv("YOURBERT_CACHE", str(folder))
    monkeypatch.setattr(node, "node_name", lambda: "machine")
    monkeypatch.setattr(node, "DVC", (str(folder / "dvc.py"),))
    return folder


def run(machine: Path, name: str, dvc: str) -> Outcome:
    (machine / "dvc.py").write_text(dvc)
    return node.run(Job(name, starting_commit(), ("++lr=1.0",), ("evaluate",), keep=""), whole_repository())


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


def test_a_sweep_starts_from_what_is_committed(project: Path, tmp_path: Path) -> None:
    (project / "params.yaml").write_text("")
    with pytest.raises(UserError, match="YB-X21"):
        starting_commit()
    git("commit", "--quiet", "--all", "--message", "more")
    assert len(starting_commit()) == 40
    git("clone", "--quiet", "--depth", "1", f"file://{project}", str(tmp_path / "shallow"))
    with pytest.raises(UserError, match="--unshallow"), pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path / "shallow")
        starting_commit()


def test_no_repository_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(UserError, match=r"YB-X20 .*not a git repository"):
        starting_commit()


@pytest.mark.parametrize(
    ("name", "says"), [("folder", ""), ("s3", ""), ("folds", "did you mean 'folder'"), ("inside", "repository itself")]
)
def test_models_go_where_other_machines_reach(project: Path, tmp_path: Path, name: str, says: str) -> None:
    urls = {"folder": tmp_path / "models", "s3": "s3://bucket/models", "inside": "../models"}
    (project / ".dvc/config").write_text("".join(f"['remote \"{n}\"']\n    url = {url}\n" for n, url in urls.items()))
    if not says:
        check_remote(name)
    else:
        with pytest.raises(UserError, match=says):
            check_remote(name)


def test_an_experiment_comes_back_as_a_commit(project: Path, machine: Path) -> None:
    before = git("status", "--porcelain"), git("rev-parse", "HEAD"), git("branch", "--all")
    outcome = run(machine, "one", COMMITS)
    start = starting_commit()
    assert finished(start) == set()
    take_in(outcome.result, start, "one")
    assert finished(start) == {"one"}
    assert git("rev-parse", f"{experiment_ref(start, 'one')}~").decode().strip() == start
    assert (git("status", "--porcelain"), git("rev-parse", "HEAD"), git("branch", "--all")) == before
    assert scores(start, ["one"], targets=False) == {"one": {"sst/1": 1.0, "sts": 0.5}}
    assert scores(start, ["one"], targets=True) == {"one": {"sst/1": 1.0}}, "sts was not run"
    assert clones(machine) == []


def test_a_cache_that_the_machine_names_is_taken(project: Path, machine: Path) -> None:
    named = 'if sys.argv[1:] == ["config", "cache.dir"]:\n    print("/shared/cache")\n'
    asserts = '    assert not pathlib.Path(".dvc/config.local").exists()\n'
    own = [line for line in COMMITS.splitlines(keepends=True) if "config.local" in line]
    assert run(machine, "one", COMMITS.replace(own[0], asserts) + named).result


def test_a_run_that_was_killed_is_tried_again_with_its_resume_state(project: Path, machine: Path) -> None:
    killed = """
import os, pathlib, signal, sys
if sys.argv[1] == "exp":
    pathlib.Path(".yourbert/resume").mkdir(parents=True)
    pathlib.Path(".yourbert/resume/state").write_text("half")
    pathlib.Path("build").mkdir()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    with pytest.raises(TryAgain) as caught:
        run(machine, "one", killed)
    assert caught.value.args[:2] == ("machine", f"dvc ended with exit code {128 + signal.SIGKILL}")
    again = 'assert pathlib.Path(".yourbert/resume/state").exists() and not pathlib.Path("build").exists()\n'
    assert run(machine, "one", COMMITS.replace("def git", f"{again}def git")).result


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
def test_only_what_may_go_well_is_tried_again(project: Path, machine: Path, printed: str, mistake: bool) -> None:
    fails = f"import sys\nprint({printed!r})\nsys.exit(sys.argv[1] == 'exp')"
    try:
        outcome = run(machine, "one", fails)
        assert mistake, "it was not tried again"
        assert not outcome.result
        problem = outcome.problem
    except TryAgain as again:
        assert not mistake
        _, problem, _ = again.args
    assert problem == printed.removeprefix("ERROR: ")


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


def test_a_cluster_that_is_not_there_is_said_at_once(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray.exceptions", reason="needs the extra cluster")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    for given in (address, "127.0.0.1:port", "no.such.host.invalid:6379"):
        with pytest.raises(UserError, match="YB-X23"):
            next(sweep([], b"", address=given, cpus=1, gpus=0, tries=1))
