"""A fused layer is the layer: the same losses and weights, by the reference kernels here and by Triton's on a GPU."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.support import tiny
from tests.support.gpu import curve, machine_of, on_a_gpu
from tests.training.fused.conftest import kept_by_hash, layer_of
from yourbert.config.schema import Runtime, Training
from yourbert.finetuning.learner import TaskLearner, set_trainable
from yourbert.model.encoder import Embeddings, Layer
from yourbert.model.multitask import Model
from yourbert.runtime.machine import Machine, prepare
from yourbert.training.checkpoint import Resume
from yourbert.training.fused import fusion, plain
from yourbert.training.fused.embeddings import EmbeddingWeights
from yourbert.training.fused.fusion import attach, check, fuse, weights_of
from yourbert.training.fused.layer import FusedLayer
from yourbert.training.graph.graph_step import GraphStep, make_stepper
from yourbert.training.loop import EagerStepper, Run
from yourbert.training.optimizer import AdamW, adamw

STILL = tiny.training(dropout=0.0, head_dropout=0.0, epochs=2)


def by_reference(model: nn.Module, optimizer: AdamW, machine: Machine) -> fusion.Fusion:
    """As `fuse`, on a CPU."""
    layers = [part for part in model.modules() if isinstance(part, Layer) and fusion._is_trainable(part)]
    fused = weights_of(layers, plain, machine.dtype)
    found = [part for part in model.modules() if isinstance(part, Embeddings) and fusion._is_trainable(part)]
    embeddings = [EmbeddingWeights(part, plain, fused[0].seeds) for part in found]
    return attach(layers, fused, embeddings, plain, optimizer)


def whole(learner: TaskLearner, run: Run) -> GraphStep:
    """Its steps as a whole, over layers that are fused by the reference."""
    return GraphStep(learner, run, False, by_reference(learner.model, run.optimizer, learner.machine))


def learner_of(settings: Training, **mixture: object) -> TaskLearner:
    described = [tiny.task(), tiny.task("sim", "similarity"), tiny.task("bi", "similarity", encoding="bi")]
    opened = [tiny.tokens(task, 91 - 30 * number) for number, task in enumerate(described)]
    learner = tiny.learner(opened, settings, **mixture)
    tiny.restrict(learner)
    return learner


@pytest.mark.parametrize(("width", "heads", "longest"), [(32, 2, 16), (32, 1, 40), (96, 3, 100)])
def test_its_pass_and_gradients_are_those_of_the_plain_layer(
    width: int, heads: int, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fusion, "TOLERANCE", 1e-4)
    layer = layer_of(width, 2 * width, heads)
    check(layer, weights_of([layer], plain, torch.float32)[0], longest, dropped=0)


@pytest.mark.parametrize("spoilt", ["gelu", "gelu_backward", "add_norm_backward", "attention_backward"])
def test_a_kernel_that_errs_is_noticed(spoilt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = getattr(plain, spoilt)

    def wrong(*given: object) -> object:
        found = right(*given)
        (found if isinstance(found, Tensor) else found[0]).mul_(1.1)
        return found

    monkeypatch.setattr(plain, spoilt, wrong)
    layer = layer_of(32, 64, 2)
    with pytest.raises(RuntimeError, match="differs from the plain one"):
        check(layer, weights_of([layer], plain, torch.float32)[0], 16)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("sampling", "pooling", "own"),
    [("joint", "cls", {}), ("proportional", "mean", {}), ("annealed", "cls", {"sim": 1}), ("masked words", "cls", {})],
)
def test_step_for_step_the_losses_and_weights_are_those_of_plain_layers(
    sampling: str, pooling: str, own: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fusion, "LARGE", 1000)  # the table of word buffers is one
    settings = STILL.model_copy(update={"pooling": pooling, "max_grad_norm": 0.05})
    learners, sums = [], []
    for yes in (False, True):
        learner: Any = tiny.mlm_learner(settings)
        if sampling != "masked words":
            learner = learner_of(settings, sampling=sampling)
        if own:
            learner = with_own_layers(learner, settings, own, sampling)
        run = tiny.run_of(learner, settings)
        fused = by_reference(learner.model, run.optimizer, learner.machine) if yes else None
        eager = sampling == "masked words"
        stepper = EagerStepper(run, fused) if eager else GraphStep(learner, run, False, fused)
        learners.append(learner)
        sums.append([*tiny.losses_of(stepper, run)])
    assert sums[1] == pytest.approx(sums[0], rel=1e-4)
    for name, p in learners[0].model.named_parameters():
        torch.testing.assert_close(
            learners[1].model.get_parameter(name), p, atol=1e-4, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}"
        )


def with_own_layers(learner: TaskLearner, settings: Training, own: dict[str, int], sampling: str) -> TaskLearner:
    model = learner.model
    tasks = [tokens.task for tokens in learner.tokens.values()]
    rng = torch.Generator().manual_seed(5)
    again = Model(model.encoder, tasks, settings.pooling, settings.head_dropout, rng, task_specific_layers=own)
    set_trainable(again, learner.mixture, settings)
    return TaskLearner(again, learner.tokens, learner.mixture, settings, learner.machine, learner.seed)


@pytest.mark.integration
def test_it_learns_under_dropout_and_draws_the_same_again(tmp_path: Path) -> None:
    ended = []
    for _ in range(2):
        learner = tiny.learner([tiny.tokens(tiny.task(), 91)], tiny.training(epochs=6))
        with Resume(tmp_path / "resume") as resume:
            outcome = tiny.trained(learner, learner.settings, resume, partial(whole, learner))
        ended.append({name: p.detach().clone() for name, p in learner.model.named_parameters()})
    assert outcome.best > 0.9
    assert all(torch.equal(ended[0][name], ended[1][name]) for name in ended[0])


@pytest.mark.integration
def test_an_interruption_changes_nothing(tmp_path: Path) -> None:
    ended, settings = [], tiny.training(epochs=2)
    for dies_at in (-1, 7):
        _, learner = tiny.finished(
            tmp_path / str(dies_at), lambda: learner_of(settings, sampling="annealed"), settings, whole, dies_at
        )
        ended.append({name: p.detach().clone() for name, p in learner.model.named_parameters()})
    assert all(torch.equal(ended[0][name], ended[1][name]) for name in ended[0])


def test_a_step_that_is_stopped_moves_nothing() -> None:
    learner = learner_of(STILL)
    run = tiny.run_of(learner, STILL)
    fused = by_reference(learner.model, run.optimizer, learner.machine)
    stepper = GraphStep(learner, run, False, fused)
    learner.model.train()
    stepper.start_epoch(0, 0, {})
    stepper.step()
    before = {name: p.detach().clone() for name, p in learner.model.named_parameters()}
    steps_N = fused.steps_N.clone()
    stepper.stopped.fill_(True)
    stepper.step()
    assert all(torch.equal(before[name], p) for name, p in learner.model.named_parameters())
    assert torch.equal(steps_N, fused.steps_N)


def test_a_check_that_breaks_off_leaves_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(layer: Layer, fused: FusedLayer, longest: int) -> None:
        for p in layer.parameters():
            p.grad = torch.ones_like(p)
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(fusion, "check", breaks)
    monkeypatch.setitem(sys.modules, "yourbert.training.fused.kernels", plain)
    learner = learner_of(STILL)
    optimizer = adamw(learner.model.parameters(), 0.0)
    gpu = replace(learner.machine, device=torch.device("cuda"), dtype=torch.bfloat16)
    assert fuse(learner.model, optimizer, gpu, 32) is None
    assert all(p.grad is None for p in learner.model.parameters())
    assert all(layer.fused is None for layer in learner.model.encoder.layers)


def test_the_hash_drops_at_its_rate_and_no_place_because_of_another() -> None:
    """Neighbours, rows apart and other seeds: related no more than independent draws are."""
    places, dropped, rng = 1 << 20, 6554, np.random.default_rng(1)
    p, apart = dropped / 65536, []
    for _ in range(10):
        first, second = (kept_by_hash(int(seed), places, dropped) - (1 - p) for seed in rng.integers(0, 2**62, 2))
        apart.append(first.mean() / (p * (1 - p)) ** 0.5)
        apart += [(first[:-lag] * first[lag:]).mean() / (p * (1 - p)) for lag in (1, 2, 64, 300, 768, 3072)]
        apart.append((first * second).mean() / (p * (1 - p)))
    assert max(map(abs, apart)) * places**0.5 < 4.5, "in standard errors; of 80"


@on_a_gpu
def test_on_a_gpu_layers_are_fused() -> None:
    machine = prepare(Runtime(device="cuda", precision="auto", num_threads=0, deterministic=False))
    if machine.dtype != torch.bfloat16:
        pytest.skip("an older card")
    opened = [tiny.tokens(tiny.task(), 91)]
    learner = tiny.learner(opened, STILL, machine=machine)
    stepper = make_stepper(learner, tiny.run_of(learner, STILL))
    assert isinstance(stepper, GraphStep) and stepper.fusion and learner.model.encoder.embeddings.fused


@on_a_gpu
def test_on_a_gpu_masked_words_are_learnt_by_fused_layers_one_by_one() -> None:
    """In bf16, so not to the last digit."""
    settings, curves = tiny.training(epochs=4, dropout=0.0, head_dropout=0.0), []
    for fused in (True, False):
        machine = machine_of()
        learner = tiny.mlm_learner(settings, 110, machine=machine)
        run = tiny.run_of(learner, settings)
        stepper = EagerStepper(run, fuse(learner.model, run.optimizer, machine, 32) if fused else None)
        assert not fused or stepper.fusion or machine.dtype != torch.bfloat16
        curves.append(curve(stepper))
    assert curves[0] == pytest.approx(curves[1], rel=0.02)
