"""Models from a hub: its client and cache, one commit, and a one-line error for each kind of failure."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.download.conftest import use_hub
from tests.support.closure import ROOT
from tests.support.faulty_server import Faulty, Handler, Step, closed_address, cut, redirect, status, whole
from tests.support.stock_models import COMMIT, FILES, HASHES, WEIGHTS, offer
from yourbert.core.errors import UserError
from yourbert.download.hub import fetch_from_hub

CONFIG_AT_MAIN = "/org/model/resolve/main/config.json"
MOVED = FILES["vocab.txt"].replace(b"good", b"bad")
WEIGHTS_AT_COMMIT = f"/org/model/resolve/{COMMIT}/model.safetensors"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def refused(code: str, work: Path, name: str = "org/model", revision: str = "main") -> str:
    with pytest.raises(UserError) as caught:
        fetch_from_hub(name, revision, work)
    (problem,) = caught.value.problems
    assert problem.code == code and str(problem).isprintable(), str(problem)
    return str(problem)


def brought(work: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in work.iterdir()}


def test_every_file_is_from_one_commit(hub: Faulty, work: Path) -> None:
    offer(hub, "org/model", FILES)
    assert fetch_from_hub("org/model", "main", work) == COMMIT and brought(work) == FILES
    assert {r.path.split("/")[4] for r in hub.requests if "resolve" in r.path and "config.json" not in r.path} == {
        COMMIT
    }
    assert not any(path.is_symlink() for path in work.iterdir())


@pytest.mark.parametrize("revision", ["v2.0", COMMIT])
def test_a_named_revision(hub: Faulty, work: Path, revision: str) -> None:
    offer(hub, "org/model", FILES, revision="v2.0")
    assert fetch_from_hub("org/model", revision, work) == COMMIT


def test_a_branch_that_moved_gives_its_new_commit(hub: Faulty, work: Path) -> None:
    offer(hub, "org/model", FILES)
    fetch_from_hub("org/model", "main", work)
    offer(hub, "org/model", FILES | {"vocab.txt": MOVED}, commit="f" * 40)
    assert fetch_from_hub("org/model", "main", work) == "f" * 40
    assert brought(work)["vocab.txt"] == MOVED


def test_a_moved_model_is_followed(hub: Faulty, work: Path) -> None:
    offer(hub, "org/model", FILES)
    for at in ("main", COMMIT):
        for file in FILES:
            hub.plan(f"/model/resolve/{at}/{file}", redirect(f"/org/model/resolve/{at}/{file}", 307))
    fetch_from_hub("model", "main", work)
    assert brought(work) == FILES


@pytest.mark.parametrize("why", ["unreachable", "HF_HUB_OFFLINE", "500"])
def test_without_the_hub_its_cache_is_used(
    hub: Faulty, work: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, why: str
) -> None:
    offer(hub, "org/model", FILES)
    fetch_from_hub("org/model", "main", work)
    hub.scripts.clear()
    hub.otherwise = status(500)
    if why == "unreachable":
        use_hub(monkeypatch, closed_address())
    if why == "HF_HUB_OFFLINE":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch_from_hub("org/model", "main", work) == COMMIT and brought(work) == FILES
    assert (why in caplog.text) == (why != "500")


@pytest.mark.parametrize("offline", [True, False])
def test_without_the_hub_and_the_cache_it_costs_seconds(
    hub: Faulty, work: Path, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    use_hub(monkeypatch, closed_address())
    started = time.monotonic()
    line = refused("W03", work)
    assert ("HF_HUB_OFFLINE is set" if offline else "unreachable") in line and "not in the hub's cache" in line
    assert time.monotonic() - started < 7


def test_silence_is_noticed(hub: Faulty, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yourbert.download.hub.PROBE_TIMEOUT_S", 0.1)
    hub.plan(CONFIG_AT_MAIN, lambda to: time.sleep(2))
    assert "unreachable: timed out" in refused("W03", work)


def test_what_fails_for_a_while_is_tried_again(hub: Faulty, work: Path, slept: list[float]) -> None:
    offer(hub, "org/model", FILES)
    right, asked = hub.scripts[CONFIG_AT_MAIN][0], []

    def failing(to: Handler) -> None:
        asked.append(to)
        (status(503) if len(asked) < 5 else right)(to)

    hub.plan(CONFIG_AT_MAIN, failing)
    fetch_from_hub("org/model", "main", work)
    assert brought(work) == FILES and slept


def test_permanent_failures_are_errors(hub: Faulty, work: Path, slept: list[float]) -> None:
    hub.plan(CONFIG_AT_MAIN, status(500))
    assert "the server responds 500" in refused("W03", work)


def test_a_body_that_is_cut_is_fetched_again(hub: Faulty, work: Path, slept: list[float]) -> None:
    headers = {"ETag": f'"{HASHES["model.safetensors"]}"', "X_Repo_Commit": COMMIT}
    offer(hub, "org/model", FILES)
    hub.plan(WEIGHTS_AT_COMMIT, cut(WEIGHTS, 50, **headers), whole(WEIGHTS, **headers))
    fetch_from_hub("org/model", "main", work)
    assert brought(work) == FILES and len(hub.gets(WEIGHTS_AT_COMMIT)) == 2
    offer(hub, "org/other", FILES)
    hub.plan(f"/org/other/resolve/{COMMIT}/model.safetensors", cut(WEIGHTS, 50, **headers))
    refused("W03", work, "org/other")


def private(secret: str, step: Step) -> Step:
    """What needs a token, as the hub answers it."""

    def check(to: Handler) -> None:
        known = to.headers.get("Authorization") == f"Bearer {secret}"
        (step if known else status(401, X_Error_Code="RepoNotFound"))(to)

    return check


def test_a_private_model_needs_a_token(
    hub: Faulty, work: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offer(hub, "org/model", FILES)
    hub.scripts = {path: [private("word", steps[0])] for path, steps in hub.scripts.items()}
    line = refused("W01", work)
    assert (
        "no such model, or it is private (the server responds 401" in line and "HF_TOKEN or run `hf auth login`" in line
    )
    monkeypatch.setenv("HF_TOKEN", "another")
    refused("W01", work)
    monkeypatch.setenv("HF_TOKEN", "word")
    fetch_from_hub("org/model", "main", work)
    assert brought(work) == FILES


def test_the_token_of_a_login_is_used(hub: Faulty, work: Path, tmp_path: Path) -> None:
    offer(hub, "org/model", FILES)
    hub.scripts = {path: [private("word", steps[0])] for path, steps in hub.scripts.items()}
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "token").write_text("word\n")
    fetch_from_hub("org/model", "main", work)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (status(403, X_Error_Code="GatedRepo"), "accept its conditions at"),
        (status(404, X_Error_Code="RepoNotFound"), "no such model, or it is private (the server responds 404"),
        (status(404, X_Error_Code="RevisionNotFound"), "no revision 'main'"),
        (status(403), "private"),
    ],
)
def test_a_refusal_is_one_line(hub: Faulty, work: Path, answer: Step, why: str) -> None:
    hub.otherwise = answer
    assert why in refused("W01", work)


def test_a_server_that_is_not_a_hub(hub: Faulty, work: Path) -> None:
    hub.plan(CONFIG_AT_MAIN, whole(b"<html>"))
    line = refused("W03", work)
    assert "not a Hugging Face hub" in line and hub.address in line and "HF_ENDPOINT" in line


def test_only_a_pickle_is_refused(hub: Faulty, work: Path) -> None:
    offer(hub, "org/model", {"config.json": FILES["config.json"], "pytorch_model.bin": b"x"})
    assert "pytorch_model.bin, a pickle" in refused("C04", work)
    assert not any(r.method == "GET" and r.path.endswith(".bin") for r in hub.requests)


def test_no_weights_at_all(hub: Faulty, work: Path) -> None:
    offer(hub, "org/model", {"config.json": FILES["config.json"]})
    assert "there is no model.safetensors" in refused("C01", work)


def test_another_kind_of_model_is_refused_before_its_weights(hub: Faulty, work: Path) -> None:
    offer(hub, "org/model", FILES | {"config.json": b'{"model_type": "gpt2"}'})
    assert "'gpt2'" in refused("C03", work)
    assert not any("safetensors" in r.path for r in hub.requests)


def test_what_is_no_safetensors(hub: Faulty, work: Path) -> None:
    offer(hub, "org/model", FILES | {"model.safetensors": b"version https://git-lfs.github.com/spec/v1\n"})
    assert "not a complete safetensors file" in refused("C01", work)


def test_weights_are_verified_by_the_hubs_sha256(hub: Faulty, work: Path) -> None:
    offer(hub, "org/model", FILES)
    headers = {"ETag": f'"{HASHES["model.safetensors"]}"', "X_Repo_Commit": COMMIT}
    hub.plan(WEIGHTS_AT_COMMIT, whole(WEIGHTS[:-1] + b"?", **headers))
    assert "differs from the sha256" in refused("W05", work)


def test_a_damaged_cache_is_mended(hub: Faulty, work: Path) -> None:
    offer(hub, "org/model", FILES)
    fetch_from_hub("org/model", "main", work)
    (blob,) = Path(constants.HF_HUB_CACHE).rglob(HASHES["model.safetensors"])
    blob.write_bytes(WEIGHTS[:-1] + b"?")
    fetch_from_hub("org/model", "main", work)
    assert brought(work) == FILES and blob.read_bytes() == WEIGHTS


def test_a_disk_that_fills_up(hub: Faulty, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    offer(hub, "org/model", FILES)
    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    line = refused("R07", work)
    assert "No space left" in line and "HF_HOME" in line


@pytest.mark.integration
def test_environment_variables_of_the_client_apply(hub: Faulty, tmp_path: Path) -> None:
    """In a process of its own, as the client reads the environment when it is imported."""
    offer(hub, "org/model", FILES)
    hub.scripts = {path: [private("word", steps[0])] for path, steps in hub.scripts.items()}
    code = (
        "import pathlib, sys; from yourbert.download.hub import fetch_from_hub;"
        "assert 'huggingface_hub' not in sys.modules, 'it is slow to import';"
        "print(fetch_from_hub('org/model', 'main', pathlib.Path(sys.argv[1])))"
    )
    ours = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "word"}
    for extra in ({}, {"HF_HUB_OFFLINE": "1"}):
        hub.requests.clear()
        work = tmp_path / f"work{len(extra)}"
        work.mkdir()
        command = [sys.executable, "-c", code, str(work)]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | ours | extra, cwd=ROOT)
        assert (done.returncode, done.stdout) == (0, f"{COMMIT}\n"), done.stderr
        assert brought(work) == FILES and bool(hub.requests) == (not extra)
    assert (tmp_path / "home" / "hub" / "models--org--model").is_dir()
