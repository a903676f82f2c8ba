"""Two ranks train as one would: the same losses and weights, the same files, and one line when a rank is gone."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support import ranks, tiny
from tests.support.closure import ROOT
from yourbert.config.schema import Runtime
from yourbert.core.errors import UserError
from yourbert.core.seeding import rng_for
from yourbert.core.storage import read_json, read_tensors
from yourbert.pretraining.masking import Masking
from yourbert.runtime.distributed import ALONE, here
from yourbert.runtime.machine import find_device, prepare
from yourbert.tokens.batching import shard_rows

pytestmark = pytest.mark.integration

SAME = [*(name for name in ranks.RUNS if name != "dropout"), "mlm"]


@dataclass(frozen=True)
class Both:
    """What two ranks left behind: by act and rank, facts and tensors; by play and rank, exit code and stderr."""

    folder: Path

    def facts(self, act: str, rank: int) -> dict[str, Any]:
        found: dict[str, Any] = read_json(self.folder / "well" / f"{act} {rank}.json")
        return found

    def tensors(self, act: str, rank: int) -> dict[str, Tensor]:
        return read_tensors(self.folder / "well" / f"{act} {rank}.safetensors")

    def code(self, play: str, rank: int) -> int:
        return int(read_json(self.folder / "codes.json")[play][rank])

    def said(self, play: str, rank: int) -> str:
        return (self.folder / play / f"said {rank}").read_text()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    folder = tmp_path_factory.mktemp("ranks")
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-m", "tests.support.ranks", str(folder)], cwd=ROOT, env=env, check=True, timeout=1200
    )
    found = Both(folder)
    for rank in range(2):
        assert found.code("well", rank) == 0, found.said("well", rank)
    return found


@pytest.mark.parametrize("name", SAME)
def test_two_ranks_train_as_one(both: Both, name: str, tmp_path: Path) -> None:
    machine = prepare(Runtime(device="cpu", precision="fp32", num_threads=1, deterministic=False))
    outcome, alone = ranks.run(name, machine, tmp_path)
    facts, together = both.facts(name, 0), both.tensors(name, 0)
    for line, expected in zip(facts["curve"], outcome.curve, strict=True):
        assert line[:3] == list(expected[:3])
        assert line[3] == (None if expected[3] is None else pytest.approx(expected[3], abs=1e-6))
        assert line[4] == pytest.approx(expected[4], abs=1e-3)  # a correlation of answers that hardly differ
    assert facts["tokens"] == outcome.tokens
    assert together.keys() == alone.keys()
    for key, tensor in alone.items():
        torch.testing.assert_close(together[key], tensor, atol=1e-5, rtol=1e-5, msg=lambda m, k=key: f"{k}: {m}")


def test_gradients_add_up(both: Both, tmp_path: Path) -> None:
    """And a head whose task has no part in a step gets none, so that the optimizer passes it over."""
    _, alone = ranks.gradients(
        prepare(Runtime(device="cpu", precision="fp32", num_threads=1, deterministic=False)), tmp_path
    )
    assert any("sim" in key and "proportional" in key for key in alone)
    for rank in range(2):
        together = both.tensors("gradients", rank)
        assert together.keys() == alone.keys()
        for key, gradient in alone.items():
            torch.testing.assert_close(together[key], gradient, atol=1e-6, rtol=1e-4, msg=lambda m, k=key: f"{k}: {m}")


@pytest.mark.parametrize("name", [*SAME, "dropout", "resumed"])
def test_both_ranks_end_alike(both: Both, name: str) -> None:
    assert both.facts(name, 0) == both.facts(name, 1)
    first, second = both.tensors(name, 0), both.tensors(name, 1)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_an_interrupted_run_of_two_ranks_ends_as_an_uninterrupted_one(both: Both) -> None:
    assert both.facts("resumed", 0) == both.facts("dropout", 0)
    whole, resumed = both.tensors("dropout", 0), both.tensors("resumed", 0)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert not (both.folder / "well" / "resumed").exists(), "the state goes when the run succeeds"


def test_a_gradient_that_is_not_finite_on_one_rank_moves_neither(both: Both) -> None:
    for rank in range(2):
        assert "T01" in both.facts("nan", rank)["said"]
        tensors = both.tensors("nan", rank)
        before = {name: t for name, t in tensors.items() if name.startswith("before/")}
        assert before
        assert all(torch.equal(t, tensors[name.removeprefix("before/")]) for name, t in before.items())


def test_ranks_with_different_states_are_refused(both: Both) -> None:
    for rank in range(2):
        assert "YB-X02 the ranks disagree about the resume state" in both.facts("disagreeing", rank)["said"]


def test_predictions_are_shared_out_and_come_back_in_order(both: Both, tmp_path: Path) -> None:
    _, alone = ranks.predicted(tiny.MACHINE, tmp_path)
    for name, answers in alone.items():
        for rank in range(2):
            torch.testing.assert_close(both.tensors("predicted", rank)[name], answers)


@pytest.mark.parametrize("play", ["killed", "stopped", "never came"])
def test_a_rank_that_is_gone_ends_the_other(both: Both, play: str) -> None:
    """Killed: noticed at once. Stopped, or never there: when the time to answer, 5 s in these, is over."""
    assert both.code(play, 0) == 9
    (line,) = [line for line in both.said(play, 0).splitlines() if line.startswith("YB-")]
    assert line.startswith("YB-X01 rank 0: rank 1 stopped")
    assert "Traceback" not in both.said(play, 0)


def test_what_was_saved_before_stays(both: Both) -> None:
    for play in ("killed", "stopped", "full"):
        assert [p.name for p in (both.folder / play / "faulty").iterdir()] == ["state.safetensors"]


def test_a_rank_that_cannot_save_says_so_and_keeps_what_it_saved(both: Both) -> None:
    """X04: the first rank alone saves; the run ends with its reason, and the state of the step before can be read."""
    assert both.code("full", 0) == 7
    (line,) = [line for line in both.said("full", 0).splitlines() if line.startswith("YB-")]
    assert line.startswith("YB-R07") and "No space left on device" in line
    assert read_tensors(both.folder / "full" / "faulty" / "state.safetensors")


@pytest.mark.parametrize("world", [1, 2, 3, 8])
@pytest.mark.parametrize("rows", [1, 2, 7, 16])
def test_every_row_is_dealt_once_and_tokens_are_balanced(world: int, rows: int) -> None:
    lengths = np.sort(rng_for(1, "lengths").integers(1, 100, 1000))
    rows_B = np.arange(400, 400 + rows)
    shares = [shard_rows(rows_B, rank, world) for rank in range(world)]
    assert sorted(np.concatenate(shares)) == list(rows_B)
    tokens = [lengths[share].sum() for share in shares]
    assert max(tokens) - min(tokens) <= lengths[rows_B].max()


def test_a_mask_is_dealt_like_its_rows() -> None:
    rng = rng_for(1, "tokens")
    tokens_T = rng.integers(5, 50, 40)
    masked = Masking(0.3, 4, np.arange(5), 50).mask(tokens_T, rng)
    kept_T = np.repeat([True, False, True, False], 10)
    parts = [masked.select(kept_T), masked.select(~kept_T)]
    assert sum(len(p.indices_M) for p in parts) == len(masked.indices_M)
    for part, kept in zip(parts, (kept_T, ~kept_T), strict=True):
        np.testing.assert_array_equal(part.tokens_T, masked.tokens_T[kept])
        np.testing.assert_array_equal(tokens_T[kept][part.indices_M], part.targets_M)


def test_alone_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert here() is ALONE
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "one")
    with pytest.raises(UserError, match="P17"):
        here()


def test_ranks_that_cannot_be_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(UserError, match=r"P17 params\.yaml: num_processes is 2, but this is one process"):
        prepare(Runtime(device="cpu", precision="fp32", num_threads=1, deterministic=False, num_processes=2))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match=r"P17 params\.yaml: 2 processes need a GPU each, but PyTorch finds 1"):
        find_device("auto", 2)


def test_the_number_of_ranks_is_a_fact_of_a_run() -> None:
    two = replace(tiny.MACHINE, ranks=replace(ALONE, world=2))
    assert two.facts() != tiny.MACHINE.facts()
