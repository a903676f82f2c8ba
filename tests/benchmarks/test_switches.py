"""Every trick can be left out, one by one, and the same is learnt up to rounding; dropout stays what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.cases import TRICKS, WITHOUT
from benchmarks.interleave import Options
from benchmarks.switches import SWITCHES, bernoulli_mask, off
from yourbert.config.params import read_params
from yourbert.config.schema import Mixture, Runtime
from yourbert.finetuning.finetune import finetune
from yourbert.inference.model_folder import load_model
from yourbert.inference.predict import Numbers, predict
from yourbert.model import attention, encoder
from yourbert.model.encoder import Embeddings, Encoder
from yourbert.runtime import machine
from yourbert.runtime.machine import prepare
from yourbert.tokens.packing import open_tokens
from yourbert.training import loop, optimizer
from yourbert.training.graph import graph_step

pytestmark = pytest.mark.integration

PARTS = (attention, encoder, graph_step, loop, machine, optimizer, Embeddings, Encoder)


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
        update={"dropout": 0.0, "head_dropout": 0.0, "epochs": 1, "batch_size": 8, "lr": lr, "warmup_ratio": 0.0}
    )
    mixture = Mixture(tasks=["sst"], sampling="proportional")
    fp32 = Runtime(device="cpu", precision="fp32", num_threads=1, deterministic=False)
    with off(*switches):
        finetune(
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
    left_out = WITHOUT.get(f"no-{name}", (name,))
    switches = [trick for trick in SWITCHES if name == "all" or trick in left_out]
    without = answers_after(f"off {name}", options, tmp_path / "off", *switches)
    moved = abs(with_all - unlearnt).max()
    assert abs(with_all - without).max() < 0.01 * moved and moved > 0.005


def test_the_plain_mask_has_the_rate_that_is_asked_for() -> None:
    rng = torch.Generator().manual_seed(1)
    keep, factor = bernoulli_mask((1000, 100), 0.1, torch.zeros(1), rng)
    assert abs(float(keep.mean()) - 0.9) < 0.005 and factor == pytest.approx(1 / 0.9)
