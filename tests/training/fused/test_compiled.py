"""The kernels are compiled once; without a compiler that works, or a cache, layers stay plain."""

from __future__ import annotations

import shutil
import stat
from functools import cache
from pathlib import Path

import pytest
import torch

from tests.training.fused.conftest import without_what_was_made
from tests.training.fused.test_fusion import STILL, learner_of
from yourbert.training.fused import compiled
from yourbert.training.fused.fusion import facts, fuse
from yourbert.training.fused.native import NativeKernels
from yourbert.training.optimizer import adamw

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(compiled.name(False) == "none", reason="no C compiler makes the kernels here"),
]


def script(folder: Path, text: str) -> Path:
    path = folder / "cc"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.parametrize(
    ("compiler", "told"),
    [
        ("", "no C compiler"),
        ("echo 'x.c:1: error: no such thing'; exit 1", "cc: x.c:1: error: no such thing"),
        ("exit 3", "cc: exit code 3"),
    ],
)
def test_without_a_compiler_that_works_layers_stay_plain(
    compiler: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("YOURBERT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    if compiler:
        script(tmp_path, compiler)
    without_what_was_made(monkeypatch)
    learner = learner_of(STILL)
    with caplog.at_level("INFO", "yourbert"):
        assert fuse(learner.model, adamw(learner.model.parameters(), 0.0), learner.machine, 32) is None
    assert f"no fused layers ({told}" in caplog.text
    assert facts(learner.machine) == {"kernels": "none"}
    assert all(layer.fused is None for layer in learner.model.encoder.layers)


def test_a_compiler_that_failed_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOURBERT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(compiled, "COMPILERS", ("false",))
    monkeypatch.delenv("CC", raising=False)
    without_what_was_made(monkeypatch)
    monkeypatch.setattr(compiled, "_built", cache(compiled._built))
    tries = runs_of_the_compiler(monkeypatch)
    for _ in range(2):
        assert compiled.name(False) == "none"
        with pytest.raises(RuntimeError, match="false: exit code 1"):
            NativeKernels(torch.float32)
    assert len(tries) == 1


def runs_of_the_compiler(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Its commands, from now on."""
    ran: list[list[str]] = []
    run = compiled._run
    monkeypatch.setattr(compiled, "_run", lambda command: ran.append(command) or run(command))  # type: ignore[func-returns-value]
    return ran


def test_they_are_compiled_once_for_what_they_depend_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOURBERT_CACHE", str(tmp_path / "cache"))
    without_what_was_made(monkeypatch)
    ran = runs_of_the_compiler(monkeypatch)
    name = compiled.name(False)
    assert name != "none" and sum("-c" in command for command in ran) > 1
    ran.clear()
    assert compiled.name(False) == name and not any("-c" in command for command in ran)
    assert compiled.name(True) != name
    sources = shutil.copytree(compiled.SOURCES, tmp_path / "native")
    (sources / "rows.c").write_text((sources / "rows.c").read_text() + "\n/* changed */\n")
    monkeypatch.setattr(compiled, "SOURCES", sources)
    assert compiled.name(False) not in ("none", name)
    assert [p.suffix for p in (tmp_path / "cache" / "kernels").iterdir()] == [".so"] * 3, "nothing else is left"


def test_a_cache_that_cannot_be_made_leaves_layers_plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    monkeypatch.setenv("YOURBERT_CACHE", str(tmp_path / "cache"))
    without_what_was_made(monkeypatch)
    learner = learner_of(STILL)
    assert fuse(learner.model, adamw(learner.model.parameters(), 0.0), learner.machine, 32) is None
