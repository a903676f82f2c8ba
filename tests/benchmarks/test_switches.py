"""Every trick can be left out, one by one, and the same is learnt up to rounding; dropout stays what it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.agreement import table
from benchmarks.cases import TRICKS, WITHOUT
from benchmarks.interleave import Options
from benchmarks.switches import SWITCHES, bernoulli_mask, off
from tests.closure import ROOT
from yourbert import attention, encoder, optim, runtime, train
from yourbert.encoder import Embeddings, Encoder
from yourbert.model_folder import load_model
from yourbert.packing import open_tokens
from yourbert.params import read_params
from yourbert.predict import Numbers, predict
from yourbert.runtime import prepare
from yourbert.settings import Mixture, Runtime
from yourbert.tailor import tailor

PARTS = (attention, encoder, optim, runtime, train, Embeddings, Encoder)


def everything() -> dict[tuple[str, str], Any]:
    return {(part.__name__, name): value for part in PARTS for name, value in vars(part).items()}


def test_the_ladder_knows_every_switch() -> None:
    assert set(TRICKS) == {"bf16", *SWITCHES} == {trick for tricks in WITHOUT.values() for trick in tricks}


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_changes_something_and_puts_it_back(name: str) -> None:
    before = everything()
    with off(name):
        assert everything() != before
    assert everything() == before


def answers_after(name: str, options: Options, out: Path, *switches: str, lr: float = 1e-2) -> Numbers:
    """Dev probabilities after an epoch on one thread, in fp32 and without dropout."""
    params = read_params(options.params)
    settings = params.training("sst").model_copy(
        update={"dropout": 0.0, "head_dropout": 0.0, "epochs": 1, "batch_size": 8, "lr": lr, "warmup": 0.0}
    )
    mixture = Mixture(tasks=["sst"], sampling="proportional")
    fp32 = Runtime(device="cpu", precision="fp32", threads=1, deterministic=False)
    with off(*switches):
        tailor(
            name, mixture, settings, fp32, 1, options.own, options.tokens, out / "model", out / "curve.csv",
            out / "cost.json",
        )  # fmt: skip
    machine = prepare(fp32)
    model = load_model(out / "model", machine)[0]
    return predict(model, "sst", open_tokens(options.tokens / "sst").splits["dev"], machine)


@pytest.fixture(scope="session")
def learnt(options: Options, tmp_path_factory: pytest.TempPathFactory) -> tuple[Numbers, Numbers]:
    """With every trick, and with a learning rate that changes nothing."""
    folder = tmp_path_factory.mktemp("on")
    return answers_after("on", options, folder), answers_after("nothing learnt", options, folder, lr=1e-9)


@pytest.mark.parametrize("name", [*SWITCHES, "all"])
def test_the_same_is_learnt_without_it(
    name: str, learnt: tuple[Numbers, Numbers], options: Options, tmp_path: Path
) -> None:
    with_all, unlearnt = learnt
    switches = SWITCHES if name == "all" else (name,)
    without = answers_after(f"off {name}", options, tmp_path / "off", *switches)
    moved = abs(with_all - unlearnt).max()
    assert abs(with_all - without).max() < 0.01 * moved and moved > 0.005


def test_the_plain_mask_has_the_rate_that_is_asked_for() -> None:
    rng = torch.Generator().manual_seed(1)
    keep, factor = bernoulli_mask((1000, 100), 0.1, torch.zeros(1), rng)
    assert abs(float(keep.mean()) - 0.9) < 0.005 and factor == pytest.approx(1 / 0.9)


def test_agreement_trains_both_ways_and_does_nothing_twice(options: Options, tmp_path: Path) -> None:
    words = ["--tasks", "sst", "--seeds", "1", "2", "--epochs", "1", "--base", options.own, "--tokens", options.tokens]
    words += ["--work", tmp_path / "work", "--out", tmp_path / "agreement.json"]
    command = [sys.executable, "-m", "benchmarks.agreement", *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment)
    facts = json.loads((tmp_path / "agreement.json").read_text())
    scores = facts["tasks"]["sst"]["scores"]
    assert [len(scores[way]) for way in ("on", "off")] == [2, 2] and "| sst" in done.stdout
    assert str(tmp_path) not in facts["command"]
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("metrics.json")}
    subprocess.run(command, check=True, cwd=ROOT, env=environment)
    assert {path: path.stat().st_mtime_ns for path in written} == written and len(written) == 4


def test_the_table_says_how_far_apart_and_how_sure() -> None:
    scores = {"on": [0.48, 0.50], "off": [0.49, 0.48]}
    one = {"metric": "accuracy", "scores": scores, "difference": 0.005, "low": -0.01, "high": 0.02, "p": 0.4}
    line = table({"sst": one | {"noise": 0.01}}).splitlines()[-1]
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        "sst", "accuracy", "0.4900", "0.4850", "+0.0050 (-0.0100 to +0.0200)", "0.400", "0.0100",
    ]  # fmt: skip
