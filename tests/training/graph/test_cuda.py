"""On a GPU: graphs give what the operations give, nothing waits for the host, and the switches do what they say.

python -m pytest -m cuda tests/training/graph/test_cuda.py tests/model/test_attention.py
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.support import tiny
from yourbert.config.schema import Runtime, Training
from yourbert.core.errors import UserError
from yourbert.finetuning.learner import TaskLearner
from yourbert.inference.model_folder import settle
from yourbert.inference.predict import predict
from yourbert.model.attention import attend
from yourbert.model.dropout import keep_mask
from yourbert.model.multitask import Model
from yourbert.model.pretrained import random_encoder
from yourbert.runtime.gpu import FAULTS, capture, dropout_generator
from yourbert.runtime.machine import Machine, prepare
from yourbert.tokens.batching import gather
from yourbert.training.checkpoint import Resume
from yourbert.training.fused.fusion import fuse
from yourbert.training.graph.buckets import fit
from yourbert.training.graph.graph_step import GraphStep, Shape, make_stepper
from yourbert.training.graph.resident import ResidentSplit
from yourbert.training.history import Outcome
from yourbert.training.loop import EagerStepper, Run, Stepper

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
STEPS = 50


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    torch.cuda.set_sync_debug_mode("default")
    torch.use_deterministic_algorithms(True)


def machine_of(deterministic: bool = False, precision: str = "auto") -> Machine:
    return prepare(Runtime(device="cuda", precision=precision, threads=0, deterministic=deterministic))  # type: ignore[arg-type]


def learner_of(settings: Training, machine: Machine, **mixture: object) -> TaskLearner:
    described = [tiny.task(), tiny.task("sim", "similarity"), tiny.task("bi", "similarity", encoding="bi")]
    opened = [tiny.tokens(task, 157 - 30 * number) for number, task in enumerate(described)]
    learner = tiny.learner(opened, settings, machine=machine, **mixture)
    tiny.restrict(learner)
    return learner


def graph_of(learner: TaskLearner, graphs: bool) -> GraphStep:
    """Its steps over fused layers, where the machine has them; captured or not."""
    run = tiny.run_of(learner, learner.settings)
    return GraphStep(learner, run, graphs, fuse(learner.model, run.optimizer, learner.machine, 32))


def curve(stepper: GraphStep | EagerStepper, steps: int = STEPS) -> list[float]:
    """The sum of all losses so far, after each step."""
    found = [*islice(tiny.losses_of(stepper, stepper.run), steps)]
    assert len(found) == steps, "the run is as long as that"
    return found


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().cpu().clone() for name, p in model.named_parameters()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_this_gpu_can_do_what_it_should() -> None:
    """On a card since Ampere, with a driver of its time, nothing may be missing: else all below tests less."""
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("an older card")
    machine = machine_of()
    assert (machine.dtype, machine.kernel, machine.graph) == (torch.bfloat16, "auto", True)
    assert machine_of(deterministic=True).kernel == "grouped"


@pytest.mark.parametrize("rows", [[5, 17, 3, 0, 40, 41, 2, 9], [7, 30, -1, -1, -1, -1, -1, -1]])
def test_flash_equals_grouped_in_a_bucket(rows: list[int]) -> None:
    machine_of()
    device, split = torch.device("cuda", 0), tiny.split(tiny.task(), 48, 1)
    lengths = np.diff(gather(split, np.array([row for row in rows if row >= 0])).offsets)
    bucket = fit(np.array([lengths.sum()]), np.array([len(lengths)]), np.array([lengths.max()]), 8)
    layout = ResidentSplit(split, 0, device).gather(torch.tensor(rows, device=device), bucket).packed.layout
    qkv = torch.randn(bucket.tokens, 3 * 64, generator=torch.Generator().manual_seed(1))
    qkv = qkv.to(device, torch.bfloat16).requires_grad_()
    flash, grouped = (attend(qkv, layout, 2, kernel=kernel) for kernel in ("flash", "grouped"))  # type: ignore[arg-type]
    gradients = [torch.autograd.grad(x.float().square().sum(), qkv)[0] for x in (flash, grouped)]
    torch.testing.assert_close(flash, grouped, atol=0.03, rtol=0.03)
    torch.testing.assert_close(*gradients, atol=0.1, rtol=0.1)


@pytest.mark.parametrize("consistency", ["none", "dropout"])
@pytest.mark.parametrize("sampling", ["joint", "proportional"])
def test_a_replayed_graph_gives_the_bytes_of_its_operations(sampling: str, consistency: str) -> None:
    """With dropout, so also the draws of every step are those of its seed."""
    found, settings = [], tiny.training(epochs=4, consistency=consistency)
    for graphs in (True, False):
        learner = learner_of(settings, machine_of(deterministic=True), sampling=sampling)
        stepper = graph_of(learner, graphs)
        found.append((curve(stepper), weights(learner.model)))
        assert stepper.graphs == graphs, "the capture did not fail"
    assert found[0][0] == found[1][0]
    assert same(found[0][1], found[1][1])


def test_a_replayed_graph_gives_the_losses_of_its_operations_with_flash_attention() -> None:
    """Not the bytes: its backward adds up in no fixed order."""
    curves = []
    for graphs in (True, False):
        learner = learner_of(tiny.training(epochs=4), machine_of())
        curves.append(curve(graph_of(learner, graphs)))
    assert curves[0][0] == pytest.approx(curves[1][0], rel=1e-3)
    assert curves[0] == pytest.approx(curves[1], rel=0.02)


def test_the_losses_are_those_of_one_by_one() -> None:
    settings, curves = tiny.training(epochs=4, dropout=0.0, head_dropout=0.0), []
    for whole in (True, False):
        learner = learner_of(settings, machine_of(precision="fp32"))
        curves.append(curve(graph_of(learner, True) if whole else EagerStepper(tiny.run_of(learner, settings))))
    assert curves[0] == pytest.approx(curves[1], rel=1e-3)


def test_masked_words_are_learnt_by_fused_layers_one_by_one() -> None:
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


@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("what", ["rows", "rows twice"])
def test_no_step_waits_for_the_host(graphs: bool, deterministic: bool, what: str) -> None:
    settings = tiny.training(epochs=2, consistency="dropout" if what == "rows twice" else "none")
    learner = learner_of(settings, machine_of(deterministic))
    stepper = graph_of(learner, graphs)
    learner.model.train()
    stepper.start_epoch(0, 0, {})
    stepper.step()
    torch.cuda.set_sync_debug_mode("error")
    for _ in range(learner.steps(0) - 1):
        stepper.step()
    torch.cuda.set_sync_debug_mode("default")
    assert all(np.isfinite(total) for total, _ in stepper.sums().values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_has_its_rate_on_a_gpu(dtype: torch.dtype) -> None:
    machine_of()
    device = torch.device("cuda", 0)
    rng = dropout_generator(device).manual_seed(1)
    keep, _ = keep_mask((1_000_003,), 0.1, torch.empty(0, dtype=dtype, device=device), rng)
    dropped, kept = int((keep == 0).sum()), int((keep == 1).sum())
    assert keep.dtype == dtype and dropped + kept == len(keep)
    assert dropped / len(keep) == pytest.approx(0.1, abs=0.002)


def finished(folder: Path, settings: Training, machine: Machine, dies_at: int = -1) -> tuple[Outcome, TaskLearner]:
    def stepper_of(learner: TaskLearner, run: Run) -> Stepper:
        stepper = make_stepper(learner, run)
        assert isinstance(stepper, GraphStep)
        return stepper

    made = lambda: learner_of(settings, machine, sampling="annealed")  # noqa: E731
    return tiny.finished(folder, made, settings, stepper_of, dies_at)


def test_deterministic_gives_the_same_bytes_twice_and_after_an_interruption(tmp_path: Path) -> None:
    settings, machine = tiny.training(epochs=3), machine_of(deterministic=True)
    steps = learner_of(settings, machine, sampling="annealed").steps(0)
    whole, first = finished(tmp_path / "a", settings, machine)
    again, second = finished(tmp_path / "b", settings, machine)
    resumed, third = finished(tmp_path / "c", settings, machine, dies_at=steps + 3)
    assert whole == again == resumed
    assert same(weights(first.model), weights(second.model)) and same(weights(first.model), weights(third.model))


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
        learner = learner_of(tiny.training(epochs=2), machine_of(deterministic=True))
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


def test_a_broken_capture_raises_what_the_callers_expect() -> None:
    device = torch.device("cuda", 0)
    machine_of()
    x = torch.ones(4, device=device)
    with pytest.raises(FAULTS):
        capture(lambda: x.sum().item(), device)
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    assert torch.rand(4, device=device, generator=dropout_generator(device)).sum() > 0


def test_a_gradient_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    settings, machine = tiny.training(), machine_of()
    learner = learner_of(settings, machine)
    with torch.no_grad():
        learner.model.encoder.layers[0].wide.bias[0] = torch.inf
    before = weights(learner.model)
    with pytest.raises(UserError, match="T01"), Resume(tmp_path / "resume") as resume:
        tiny.trained(learner, settings, resume, partial(make_stepper, learner))
    assert same(before, weights(learner.model))


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("auto", 0.03)])
@pytest.mark.parametrize("encoding", ["cross", "bi"])
def test_a_gpu_predicts_what_a_cpu_predicts(precision: str, tolerance: float, encoding: str) -> None:
    task = tiny.task("sim", "similarity", encoding=encoding)
    split, answers = tiny.split(task, 64, 3), []
    for machine in (tiny.MACHINE, machine_of(precision=precision)):
        encoder = random_encoder(tiny.CONFIG, torch.Generator().manual_seed(1))
        model = settle(Model(encoder, [task], "cls", 0.0, torch.Generator().manual_seed(2)), machine).eval()
        answers.append(predict(model, task.name, split, machine))
    np.testing.assert_allclose(answers[1], answers[0], atol=5 * tolerance)
