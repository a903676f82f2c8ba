"""A stage in several ranks ends as its ranks ended: with one line, their exit code, and nothing left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.closure import ROOT
from yourbert.config.params import read_params
from yourbert.core.errors import UserError
from yourbert.runtime import launch


def ranks(code: str) -> list[str]:
    """A command whose ranks run `code`, which may use `rank`."""
    return [sys.executable, "-c", f"import os, signal, sys, time\nrank = int(os.environ['RANK'])\n{code}"]


def test_every_rank_knows_its_place(tmp_path: Path) -> None:
    names = "('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'LOCAL_WORLD_SIZE', 'MASTER_ADDR')"
    launch.launch(ranks(f"open(f'{tmp_path}/{{rank}}', 'w').write(' '.join(os.environ[n] for n in {names}))"), 3)
    assert [(tmp_path / str(rank)).read_text() for rank in range(3)] == [f"{r} {r} 3 3 127.0.0.1" for r in range(3)]


@pytest.mark.parametrize("guilty", [0, 1])
def test_the_line_and_the_code_of_the_rank_that_failed(
    guilty: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fails = f"if rank == {guilty}: sys.stderr.write('YB-R07 disk'); sys.exit(7)"
    code = f"{fails}\ntime.sleep(60)\nopen('{tmp_path}/finished', 'w')"
    with pytest.raises(SystemExit) as caught:
        launch.launch(ranks(code), 2)
    assert caught.value.code == 7
    assert capfd.readouterr().err == "YB-R07 disk"
    assert not (tmp_path / "finished").exists(), "the other is ended"


def test_what_every_rank_says_is_said_once(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        launch.launch(ranks("sys.stderr.write('YB-T01 diverged'); sys.exit(6)"), 3)
    assert caught.value.code == 6
    assert capfd.readouterr().err == "YB-T01 diverged"


def test_the_cause_is_told_and_not_its_consequence(capfd: pytest.CaptureFixture[str]) -> None:
    """Ranks that miss another one end with 9; what happened to that one is the news."""
    code = "if rank < 2: sys.exit(9)\nsys.stderr.write('YB-R07 disk'); sys.exit(7)"
    with pytest.raises(SystemExit) as caught:
        launch.launch(ranks(code), 3)
    assert caught.value.code == 7
    assert capfd.readouterr().err == "YB-R07 disk"


def test_a_killed_rank_is_named() -> None:
    with pytest.raises(UserError, match="X01 rank 1: it was ended by SIGKILL") as caught:
        launch.launch(ranks("if rank == 1: os.kill(os.getpid(), signal.SIGKILL)\nif rank == 0: sys.exit(9)"), 2)
    assert caught.value.exit_code == 9


def test_a_rank_that_gave_up_points_to_those_that_ran_on() -> None:
    with pytest.raises(
        UserError, match="X01 rank 0: it was ended by SIGABRT, while these were still running or hung: 1"
    ):
        launch.launch(ranks("os.abort() if rank == 0 else time.sleep(60)"), 2)


def test_a_stopped_rank_is_ended_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that SIGSTOP holds does not hear SIGTERM."""
    monkeypatch.setattr(launch, "TERMINATE_TIMEOUT_S", 0.5)
    with pytest.raises(SystemExit) as caught:
        launch.launch(ranks("if rank == 1: os.kill(os.getpid(), signal.SIGSTOP)\ntime.sleep(1)\nsys.exit(9)"), 2)
    assert caught.value.code == 9


@pytest.mark.integration
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_ranks_do_not_outlive_their_launcher(tmp_path: Path, number: signal.Signals, code: int) -> None:
    write = f"open(f'{tmp_path}/{{rank}}.new', 'w').write(str(os.getpid()))"
    rank = f"{write}\nos.rename(f'{tmp_path}/{{rank}}.new', f'{tmp_path}/{{rank}}')\ntime.sleep(600)"
    watched = (
        f"from yourbert.runtime.launch import _end_with_parent\n_end_with_parent()\n{rank}" if code == -9 else rank
    )
    program = (
        "import signal\nfrom yourbert.core.errors import exit_cleanly\nfrom yourbert.runtime.launch import launch\n"
        # A test run in the background would hand down that Ctrl-C is ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"exit_cleanly(lambda: launch({ranks(watched)!r}, 2))"
    )
    launcher = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: all((tmp_path / str(rank)).exists() for rank in range(2)))
    launcher.send_signal(number)
    _, errors = launcher.communicate(timeout=300)
    assert launcher.returncode == code, errors
    assert errors == ("interrupted\n" if number == signal.SIGINT else "")
    wait_until(lambda: not any(runs(int((tmp_path / str(rank)).read_text())) for rank in range(2)))


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 300
    while not true():
        assert time.monotonic() < end, "waited for minutes"
        time.sleep(0.05)


def runs(process: int) -> bool:
    """Whether a process lives; one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_one_rank_or_torchrun_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Any] = []
    monkeypatch.setattr(launch, "launch", lambda *args: called.append(args))
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    launch.in_ranks(lambda *words: called.append(words), lambda params: 1)("sst", "1")
    launch.in_ranks(lambda *words: called.append(words), lambda params: 2)("sst", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    launch.in_ranks(lambda *words: called.append(words), lambda params: 2)("sst", "3")
    command = [sys.executable, *sys.orig_argv[1:]]
    assert called == [("sst", "1"), (command, 2), ("sst", "3")]
    assert read_params().num_processes == 1
    assert "YOURBERT_LAUNCHER" not in os.environ
