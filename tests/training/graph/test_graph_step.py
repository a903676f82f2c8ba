"""A step computed as a whole is the step computed one by one: the same code runs here without being captured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support import tiny
from tests.support.gpu import curve, machine_of, on_a_gpu
from tests.support.tiny import same, weights
from yourbert.config.schema import Training
from yourbert.core.errors import UserError
from yourbert.core.seeding import seed_of
from yourbert.finetuning.learner import TaskLearner
from yourbert.finetuning.losses import divergence
from yourbert.model.attention import Kernel
from yourbert.runtime.machine import Machine
from yourbert.training.checkpoint import Resume
from yourbert.training.fused.fusion import fuse
from yourbert.training.graph import graph_step
from yourbert.training.graph.graph_step import GraphStep, Shape, make_stepper
from yourbert.training.history import TrainingHistory
from yourbert.training.loop import EagerStepper, Run, Stepper, mean_loss

STILL = tiny.training(dropout=0.0, head_dropout=0.0, epochs=2)


def learner_of(settings: Training, tasks: int = 1, **mixture: object) -> TaskLearner:
    """91 and 61 rows: the last batch of a pass is smaller than the others."""
    described = [tiny.task(), tiny.task("sim", "similarity"), tiny.task("bi", "similarity", encoding="bi")][:tasks]
    opened = [tiny.tokens(task, 91 - 30 * number) for number, task in enumerate(described)]
    return tiny.learner(opened, settings, **mixture)


def run(folder: Path, learner: TaskLearner, whole: bool = True, seconds: float = 1e9) -> TrainingHistory:
    with Resume(folder / "resume", seconds) as resume:
        stepper_of = partial(GraphStep, learner, graphs=False) if whole else EagerStepper
        return tiny.trained(learner, learner.settings, resume, stepper_of)


def run_of(learner: TaskLearner) -> Run:
    return tiny.run_of(learner, learner.settings)


@pytest.mark.parametrize("regularizer", ["none", "r_drop"])
@pytest.mark.parametrize(("sampling", "pooling", "clip"), [("joint", "cls", 0.05), ("proportional", "mean", 0.0)])
def test_step_for_step_the_losses_are_those_of_one_by_one(
    sampling: str, pooling: str, clip: float, regularizer: str
) -> None:
    """Three kinds of tasks, with a factor, class weights or a pooling of its own, over two epochs to the last batch."""
    changes = {"pooling": pooling, "max_grad_norm": clip, "class_weights": "balanced", "regularizer": regularizer}
    settings = STILL.model_copy(update=changes)
    mixture = {"sampling": sampling, "loss_weights": {"sim": 2.0}, "task_pooling": {"sim": "mean"}}
    tiny.check_whole_steps([learner_of(settings, 3, **mixture) for _ in range(2)])


def test_a_whole_run_has_the_curve_of_one_by_one(tmp_path: Path) -> None:
    """Also with a table restricted to the word pieces in use, as a training restricts it."""
    curves = []
    for whole in (False, True):
        learner = learner_of(STILL, 2)
        tiny.restrict(learner)
        outcome = run(tmp_path, learner, whole)
        curves.append(outcome.curve)
        assert outcome.steps_done == 2 * (12 + 8)
        assert outcome.tokens == 2 * sum(len(tokens.splits["train"].tokens) for tokens in learner.tokens.values())
    assert [line[:3] for line in curves[0]] == [line[:3] for line in curves[1]]
    for expected, got in zip(*curves, strict=True):
        assert got[3] is expected[3] is None or got[3] == pytest.approx(expected[3], rel=1e-4)
        assert got[4] == pytest.approx(expected[4], abs=1e-3)


@pytest.mark.integration
@pytest.mark.parametrize("sampling", ["joint", "annealed"])
def test_same_seed_same_bytes(tmp_path: Path, sampling: str) -> None:
    ended = []
    for _ in range(2):
        learner = learner_of(tiny.training(epochs=2), 2, sampling=sampling)
        run(tmp_path, learner)
        ended.append(weights(learner.model))
    assert same(*ended)


@pytest.mark.integration
@pytest.mark.parametrize("regularizer", ["none", "r_drop"])
def test_it_learns_under_dropout(tmp_path: Path, regularizer: str) -> None:
    assert run(tmp_path, learner_of(tiny.training(epochs=12, regularizer=regularizer))).best > 0.9


def test_rows_that_are_missing_differ_in_nothing() -> None:
    """Of a batch with three of eight rows, the looks at those three alone are compared."""
    rows_B, seed = torch.tensor([4, 0, 7, *[-1] * 5]), 3
    losses = []
    for weight in (0.0, 1.0):
        learner = learner_of(tiny.training(regularizer="r_drop", regularizer_weight=weight))
        stepper = GraphStep(learner, run_of(learner), graphs=False)
        learner.model.train()
        stepper.rng.manual_seed(seed)
        bucket = stepper.shapes.all()[0].buckets[0]
        loss, rows = stepper._loss("mood", rows_B, bucket)
        assert rows == 3
        losses.append(loss * rows)
    stepper.rng.manual_seed(seed)
    batch = stepper.resident["mood"].gather(rows_B.repeat_interleave(2), bucket)
    pooled_SE = learner.model.encoder.pooled(batch.packed, stepper.rng, "cls")
    scores_2BC = learner.model.scores_of_features("mood", pooled_SE[:16], stepper.rng)
    apart_B = divergence(learner.tokens["mood"].task, scores_2BC[0::2], scores_2BC[1::2])
    assert apart_B[3:].max() > 0, "the missing ones do differ"
    torch.testing.assert_close(losses[1] - losses[0], apart_B[:3].sum(), rtol=1e-3, atol=1e-4)


def test_the_draws_of_a_step_follow_from_the_seed_and_its_number() -> None:
    """They are those that one by one draws from, where a step has one task; and a later start changes nothing."""
    learner = learner_of(tiny.training(epochs=2))
    stepper = GraphStep(learner, run_of(learner), graphs=False)
    learner.model.train()
    for epoch in (0, 1):
        stepper.start_epoch(epoch, first := epoch * learner.steps(0), {})
        for number in range(first, first + 3):
            stepper.step()
            assert stepper.rng.initial_seed() == seed_of(learner.seed, "dropout", "mood", number)


class CutOff(Exception):
    pass


class Interrupted(GraphStep):
    """A stepper whose process dies at a given step."""

    dies_at = 10**9

    def step(self) -> tuple[int, int]:
        if self._first + self._done == self.dies_at:
            raise CutOff
        return super().step()


@pytest.mark.integration
@pytest.mark.parametrize("dies_at", [3, 24])
def test_interrupted_is_uninterrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: int) -> None:
    """Cut in the first epoch of 12 steps, and after two whole ones; with dropout."""
    settings = tiny.training(epochs=3)
    whole = learner_of(settings)
    expected = run(tmp_path / "whole", whole)
    cut = learner_of(settings)
    monkeypatch.setattr(Interrupted, "dies_at", dies_at)
    with pytest.raises(CutOff), Resume(tmp_path / "cut" / "resume", 0) as resume:
        tiny.trained(cut, settings, resume, lambda run: Interrupted(cut, run, graphs=False))
    again = learner_of(settings)
    outcome = run(tmp_path / "cut", again, seconds=0)
    assert same(weights(again.model), weights(whole.model))
    assert outcome == expected


def test_a_gradient_that_is_not_finite_stops_the_weights_at_once_and_the_run_when_it_is_looked_at() -> None:
    learner = learner_of(STILL)
    stepper, model = GraphStep(learner, run_of(learner), graphs=False), learner.model
    model.train()
    stepper.start_epoch(0, 0, {})
    for _ in range(3):
        stepper.step()
    stepper.sums()
    with torch.no_grad():
        kept = model.encoder.layers[0].intermediate.bias[0].clone()
        model.encoder.layers[0].intermediate.bias[0] = torch.inf
    before = weights(model)
    stepper.step()
    assert same(before, weights(model))
    with torch.no_grad():
        model.encoder.layers[0].intermediate.bias[0] = kept
    before = weights(model)
    for _ in range(4):
        stepper.step()  # their gradients are finite again, but the run is over
    assert same(before, weights(model))
    with pytest.raises(UserError, match=r"T01.*at step 4, epoch 1 \(lr") as caught:
        stepper.sums()
    assert caught.value.exit_code == 6


def test_a_run_that_diverges_keeps_its_weights(tmp_path: Path) -> None:
    learner = learner_of(STILL)
    with torch.no_grad():
        learner.model.encoder.embeddings.word[10].fill_(torch.inf)
    before = weights(learner.model)
    with pytest.raises(UserError, match="T01"):
        run(tmp_path, learner)
    assert same(before, weights(learner.model))


def test_shapes_are_few_and_chosen_before_the_first_step() -> None:
    learner = learner_of(tiny.training(epochs=5), 3, sampling="annealed")
    stepper = GraphStep(learner, run_of(learner), graphs=False)
    shapes = stepper.shapes.all()
    assert {shape.tasks for shape in shapes} == {("mood",), ("sim",), ("bi",)}
    assert len(shapes) <= 3 * 8
    for epoch in range(5):
        facts = stepper.shapes.epoch(epoch)
        assert len(facts) == learner.steps(epoch) and {f.shape for f in facts} <= set(shapes)
        read = sum(len(rows) for step in facts for rows in step.rows_P)
        assert read == sum(p.rows for s in range(learner.steps(epoch)) for p in losses(learner, epoch, s))


def losses(learner: TaskLearner, epoch: int, number: int) -> Iterator[object]:
    first = sum(learner.steps(e) for e in range(epoch))
    yield from learner.losses(epoch, first + number)


def test_a_cpu_and_a_frozen_encoder_are_trained_one_by_one() -> None:
    learner = learner_of(STILL)
    assert type(make_stepper(learner, run_of(learner))) is EagerStepper
    frozen = learner_of(tiny.training(freeze_encoder=True))
    frozen.machine = replace(tiny.MACHINE, device=torch.device("cuda", 0))
    assert type(make_stepper(frozen, run_of(frozen))) is EagerStepper


@pytest.mark.parametrize(
    ("kernel", "dtype"), [("grouped", torch.float32), ("grouped", torch.bfloat16), ("flash", torch.bfloat16)]
)
def test_a_step_reads_nothing_back_and_touches_no_other_device(
    kernel: Kernel, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Computed with shapes alone: to look at a number fails there, and so does a tensor made on the CPU.

    The norm, which has no form for shapes, is left out.
    """
    nowhere, moved = torch.device("meta"), []
    learner = learner_of(tiny.training(class_weights="balanced", epochs=1), 3, sampling="joint")
    learner.machine = replace(tiny.MACHINE, device=nowhere)
    encoder = learner.model.to(nowhere).encoder
    encoder.compute_dtype, encoder.kernel = dtype, kernel
    tiny.restrict(learner)
    learner.class_weights = {n: w if w is None else w.to(nowhere) for n, w in learner.class_weights.items()}
    monkeypatch.setattr(graph_step, "dropout_generator", lambda device: torch.Generator())
    monkeypatch.setattr(graph_step, "optimizer_step", lambda *facts: moved.append(facts))
    stepper = GraphStep(learner, run_of(learner), graphs=False)
    learner.model.train()
    stepper.start_epoch(0, 0, {})
    stepper.step()
    assert len(moved) == 1
    for name, p in learner.model.named_parameters():
        assert p.grad is not None and p.grad.device == nowhere, name
    with pytest.raises((RuntimeError, NotImplementedError)):
        stepper.sums()  # which does look


def test_rows_that_a_gpu_has_no_room_for_stay_with_the_host(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    learner = learner_of(STILL)
    learner.machine = replace(tiny.MACHINE, device=torch.device("cuda", 0))
    monkeypatch.setattr(graph_step, "fuse", lambda *given: None)
    monkeypatch.setattr(graph_step, "GraphStep", lambda *given: "on the GPU")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 30, 1 << 31))
    assert make_stepper(learner, run_of(learner)) == "on the GPU"  # type: ignore[comparison-overlap]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 10, 1 << 31))
    with caplog.at_level("INFO", "yourbert"):
        assert type(make_stepper(learner, run_of(learner))) is EagerStepper
    assert "batches come from the host" in caplog.text


def test_a_step_that_cannot_be_captured_runs_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The notice has the reason, the weights are those of a run that never tried, and it is tried once."""
    tries = []

    def refuse(*facts: object) -> None:
        tries.append(facts)
        try:
            raise RuntimeError("operation not permitted when stream is capturing\nCUDA kernel errors")
        finally:
            raise RuntimeError("capture_end failed")

    class Stream:
        def wait_stream(self, other: object) -> None: ...

    monkeypatch.setattr(graph_step, "capture", refuse)
    monkeypatch.setattr(graph_step, "side_stream", lambda device: Stream())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream())
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: torch.enable_grad())
    ended, settings = [], tiny.training(epochs=1)
    for graphs in (True, False):
        learner = learner_of(settings)
        stepper = GraphStep(learner, run_of(learner), graphs)
        learner.model.train()
        with caplog.at_level("INFO", "yourbert"):
            stepper.start_epoch(0, 0, {})
        for _ in range(learner.steps(0)):
            stepper.step()
        assert mean_loss(stepper.sums()) > 0
        ended.append(weights(learner.model))
    assert same(*ended)
    assert len(tries) == 1
    assert caplog.text.count("operation not permitted when stream is capturing") == 1


def learner_on(settings: Training, machine: Machine, **mixture: object) -> TaskLearner:
    described = [tiny.task(), tiny.task("sim", "similarity"), tiny.task("bi", "similarity", encoding="bi")]
    opened = [tiny.tokens(task, 157 - 30 * number) for number, task in enumerate(described)]
    learner = tiny.learner(opened, settings, machine=machine, **mixture)
    tiny.restrict(learner)
    return learner


def graph_of(learner: TaskLearner, graphs: bool) -> GraphStep:
    """Its steps over fused layers, where the machine has them; captured or not."""
    run = tiny.run_of(learner, learner.settings)
    return GraphStep(learner, run, graphs, fuse(learner.model, run.optimizer, learner.machine, 32))


@on_a_gpu
@pytest.mark.parametrize("regularizer", ["none", "r_drop"])
@pytest.mark.parametrize("sampling", ["joint", "proportional"])
def test_a_replayed_graph_gives_the_bytes_of_its_operations(sampling: str, regularizer: str) -> None:
    """With dropout, so also the draws of every step are those of its seed."""
    found, settings = [], tiny.training(epochs=4, regularizer=regularizer)
    for graphs in (True, False):
        learner = learner_on(settings, machine_of(deterministic=True), sampling=sampling)
        stepper = graph_of(learner, graphs)
        found.append((curve(stepper), weights(learner.model)))
        assert stepper.graphs == graphs, "the capture did not fail"
    assert found[0][0] == found[1][0]
    assert same(found[0][1], found[1][1])


@on_a_gpu
def test_a_replayed_graph_gives_the_losses_of_its_operations_with_flash_attention() -> None:
    """Not the bytes: its backward adds up in no fixed order."""
    curves = []
    for graphs in (True, False):
        learner = learner_on(tiny.training(epochs=4), machine_of())
        curves.append(curve(graph_of(learner, graphs)))
    assert curves[0][0] == pytest.approx(curves[1][0], rel=1e-3)
    assert curves[0] == pytest.approx(curves[1], rel=0.02)


@on_a_gpu
def test_on_a_gpu_the_losses_are_those_of_one_by_one() -> None:
    settings, curves = tiny.training(epochs=4, dropout=0.0, head_dropout=0.0), []
    for whole in (True, False):
        learner = learner_on(settings, machine_of(precision="fp32"))
        curves.append(curve(graph_of(learner, True) if whole else EagerStepper(tiny.run_of(learner, settings))))
    assert curves[0] == pytest.approx(curves[1], rel=1e-3)


@on_a_gpu
@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("what", ["rows", "rows twice"])
def test_no_step_waits_for_the_host(graphs: bool, deterministic: bool, what: str) -> None:
    settings = tiny.training(epochs=2, regularizer="r_drop" if what == "rows twice" else "none")
    learner = learner_on(settings, machine_of(deterministic))
    stepper = graph_of(learner, graphs)
    learner.model.train()
    stepper.start_epoch(0, 0, {})
    stepper.step()
    torch.cuda.set_sync_debug_mode("error")
    for _ in range(learner.steps(0) - 1):
        stepper.step()
    torch.cuda.set_sync_debug_mode("default")
    assert all(np.isfinite(total) for total, _ in stepper.sums().values())


def finished_on(
    folder: Path, settings: Training, machine: Machine, dies_at: int = -1
) -> tuple[TrainingHistory, TaskLearner]:
    def stepper_of(learner: TaskLearner, run: Run) -> Stepper:
        stepper = make_stepper(learner, run)
        assert isinstance(stepper, GraphStep)
        return stepper

    made = lambda: learner_on(settings, machine, sampling="annealed")  # noqa: E731
    return tiny.finished(folder, made, settings, stepper_of, dies_at)


@on_a_gpu
def test_deterministic_gives_the_same_bytes_twice_and_after_an_interruption(tmp_path: Path) -> None:
    settings, machine = tiny.training(epochs=3), machine_of(deterministic=True)
    steps = learner_on(settings, machine, sampling="annealed").steps(0)
    whole, first = finished_on(tmp_path / "a", settings, machine)
    again, second = finished_on(tmp_path / "b", settings, machine)
    resumed, third = finished_on(tmp_path / "c", settings, machine, dies_at=steps + 3)
    assert whole == again == resumed
    assert same(weights(first.model), weights(second.model)) and same(weights(first.model), weights(third.model))


@on_a_gpu
def test_a_capture_that_breaks_off_leaves_a_process_that_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The step waits for the host where it must not; afterwards dropout and training work, to the same weights."""
    ended = []
    compute = GraphStep._compute

    def waits(self: GraphStep, shape: Shape) -> None:
        compute(self, shape)
        if torch.cuda.is_current_stream_capturing():
            self.at.item()

    for breaks in (True, False):
        learner = learner_on(tiny.training(epochs=2), machine_of(deterministic=True))
        with monkeypatch.context() as patch:
            if breaks:
                patch.setattr(GraphStep, "_compute", waits)
            stepper = graph_of(learner, breaks)
            with caplog.at_level("INFO", "yourbert"):
                curve(stepper, steps=20)
        assert not stepper.graphs
        ended.append(weights(learner.model))
    assert same(*ended)
    assert caplog.text.count("could not be captured") == 1


@on_a_gpu
def test_on_a_gpu_a_gradient_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    settings, machine = tiny.training(), machine_of()
    learner = learner_on(settings, machine)
    with torch.no_grad():
        learner.model.encoder.layers[0].intermediate.bias[0] = torch.inf
    before = weights(learner.model)
    with pytest.raises(UserError, match="T01"), Resume(tmp_path / "resume") as resume:
        tiny.trained(learner, settings, resume, partial(make_stepper, learner))
    assert same(before, weights(learner.model))
