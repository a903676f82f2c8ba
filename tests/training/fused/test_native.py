"""The C kernels compute what the reference says, to the same bits on any number of threads; what does without them.

Skipped where no compiler makes them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support import tiny
from tests.training.fused.conftest import kept_by_hash, layer_of, without_what_was_made
from tests.training.fused.test_fusion import STILL, learner_of
from yourbert.core.errors import UserError
from yourbert.training.fused import compiled, fusion, plain
from yourbert.training.fused.fusion import check, facts, fuse, weights_of
from yourbert.training.fused.interface import DropoutSeed
from yourbert.training.fused.native import NativeKernels
from yourbert.training.fused.weights import ParameterBuffer
from yourbert.training.graph.graph_step import make_stepper
from yourbert.training.loop import EagerStepper

pytestmark = pytest.mark.skipif(compiled.name(False) == "none", reason="no C compiler makes the kernels here")

E, T, H = 32, 50, 2
LENGTHS = (5, 17, 1, 27)
DROPPED = 6554
BOUNDS = torch.tensor([0, *np.cumsum(LENGTHS)], dtype=torch.int32)


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def draw_at(site: int, dropped: int = DROPPED) -> DropoutSeed:
    seeds = torch.randint(2**62, (4,), generator=torch.Generator().manual_seed(3))
    return DropoutSeed(seeds, site, dropped, 65536 / (65536 - dropped))


def kept(draw: DropoutSeed, places: Tensor) -> Tensor:
    """What the draw multiplies the elements at these places by."""
    all_kept = kept_by_hash(int(draw.seeds[draw.site]), int(places.max()) + 1, draw.dropped)
    return torch.from_numpy(all_kept)[places] * draw.factor


def noise(rng: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=rng)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.02)])
@pytest.mark.parametrize(
    ("width", "heads", "longest"), [(32, 2, 16), (32, 1, 40), (96, 3, 100), (384, 12, 33), (768, 12, 70), (128, 1, 7)]
)
def test_their_pass_and_gradients_are_those_of_the_plain_layer(
    kernels: NativeKernels,
    width: int,
    heads: int,
    longest: int,
    dtype: torch.dtype,
    tolerance: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fusion, "TOLERANCE", tolerance)
    layer = layer_of(width, 2 * width, heads)
    check(layer, weights_of([layer], kernels, dtype)[0], longest, dropped=0)


def test_adding_and_normalising_drops_what_the_hash_says(kernels: NativeKernels, rng: torch.Generator) -> None:
    x, y, bias, weight, shift = (noise(rng, *s).requires_grad_() for s in ((T, E), (T, E), (E,), (E,), (E,)))
    dout, draw = noise(rng, T, E), draw_at(1)
    expected = F.layer_norm(x + (y + bias) * kept(draw, torch.arange(T * E).view(T, E)), (E,), weight, shift, 1e-12)
    gradients = torch.autograd.grad(expected, (x, y, weight, shift, bias), dout)
    with torch.no_grad():
        out, total, stats = kernels.add_norm(x, y, bias, weight, shift, 1e-12, draw)
        parts = torch.empty(16, 3 * E)
        found = kernels.add_norm_backward(dout, total, stats, weight, draw, parts)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-4)
    for own, other in zip((*found, *parts.sum(0).split(E)), gradients, strict=True):
        torch.testing.assert_close(own, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("asked", [max(LENGTHS), 1])
def test_attention_drops_what_the_hash_says(kernels: NativeKernels, rng: torch.Generator, asked: int) -> None:
    """Also where nothing but the first query of a sequence is asked for."""
    qkv, bias, dout = noise(rng, T, 3 * E).requires_grad_(), noise(rng, 3 * E), noise(rng, T, E)
    draw, span = draw_at(0), 32
    read = torch.cat([torch.arange(T)[start:end][:asked] for start, end in pairwise(BOUNDS.tolist())])
    dout = torch.zeros_like(dout).index_copy(0, read, dout[read])
    rows = []
    for start, end in pairwise(BOUNDS.tolist()):
        q, k, v = (qkv + bias).view(T, 3, H, -1)[start:end].permute(1, 2, 0, 3)
        weights = torch.softmax(q @ k.mT * (E // H) ** -0.5, -1)
        query, key = torch.arange(start, end)[None, :, None], torch.arange(end - start)
        places = (query * H + torch.arange(H)[:, None, None]) * span + key
        rows.append(((weights * kept(draw, places)) @ v).transpose(0, 1).flatten(1))
    expected = torch.cat(rows)
    (gradient,) = torch.autograd.grad(expected, qkv, dout)
    with torch.no_grad():
        out, stats = kernels.attend(qkv, bias, BOUNDS, max(LENGTHS), asked, H, draw)
        parts = torch.empty(len(LENGTHS), 3 * E)
        found = kernels.attention_backward(dout, qkv, bias, BOUNDS, max(LENGTHS), asked, out, stats, draw, parts)
    torch.testing.assert_close(out[read], expected[read], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found, gradient, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(parts.sum(0), gradient.sum(0), atol=1e-4, rtol=1e-4)


def test_embeddings_drop_what_the_hash_says_and_give_each_table_its_gradient(
    kernels: NativeKernels, rng: torch.Generator
) -> None:
    tables = tuple(noise(rng, n, E).requires_grad_() for n in (40, 30, 2))
    weight, shift = noise(rng, E).requires_grad_(), noise(rng, E).requires_grad_()
    words, segments = torch.randint(40, (T,), generator=rng), torch.randint(2, (T,), generator=rng)
    places, draw, pad = (words, torch.cat([torch.arange(n) for n in LENGTHS]), segments), draw_at(0), int(words[0])
    rows = F.embedding(words, tables[0], pad) + tables[1][places[1]] + tables[2][segments]
    expected = F.layer_norm(rows, (E,), weight, shift, 1e-12) * kept(draw, torch.arange(T * E).view(T, E))
    dout = noise(rng, T, E)
    word, position, segment, *vectors = torch.autograd.grad(expected, (*tables, weight, shift), dout)
    with torch.no_grad():
        out, stats = kernels.embed(tables, weight, shift, places, draw, 1e-12, torch.float32)  # type: ignore[arg-type]
        dtotal, sums = kernels.embed_backward(dout, tables, weight, places, draw, stats)  # type: ignore[arg-type]
        dposition = torch.zeros(30, E)
        kernels.position_sums(dtotal, BOUNDS, dposition[: max(LENGTHS)])
        dword = kernels.word_gradient(dtotal, words, 40, pad)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-4)
    for own, other in ((dposition, position), (sums[2:], segment), (sums[0], vectors[0]), (sums[1], vectors[1])):
        torch.testing.assert_close(own, other, atol=1e-4, rtol=1e-4)
    assert dword.is_sparse and not dword.to_dense()[pad].any()
    torch.testing.assert_close(dword.to_dense(), word, atol=1e-5, rtol=1e-4)


def test_the_sums_of_all_parts(kernels: NativeKernels, rng: torch.Generator) -> None:
    parts = kernels.parts(9, 3, 16, E, 2 * E, torch.empty(0))
    parts.memory.copy_(noise(rng, len(parts.memory)))
    torch.testing.assert_close(kernels.sums(parts), plain.sums(parts))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_norm_of_many_gradients(kernels: NativeKernels, rng: torch.Generator, dtype: torch.dtype) -> None:
    gradients = [noise(rng, n).to(dtype) for n in (16, 48, 65536, 65536 * 2 + 176)]
    whole = torch.cat(gradients).double().norm()
    torch.testing.assert_close(kernels.norm(gradients), whole.float(), rtol=1e-5, atol=0)
    gradients[1][3] = torch.nan
    assert kernels.norm(gradients).isnan()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_of_the_optimizer(kernels: NativeKernels, rng: torch.Generator, dtype: torch.dtype) -> None:
    found = []
    start, gradients = noise(rng, 4096), [noise(rng, 4096).to(dtype) for _ in range(3)]
    for own in (kernels, plain):
        buffer = ParameterBuffer([nn.Parameter(start.clone())], dtype)
        for number, buffer.gradient_N in enumerate(gradients, 1):
            corrections = torch.tensor([1 - 0.9**number, 1 - 0.999**number])
            stopped = torch.tensor(number == 2)
            rest = (torch.tensor(1e-3), torch.tensor(1.5), stopped, corrections, (0.9, 0.999), 1e-8, 0.01)
            own.adamw(buffer, *rest)
        found.append([buffer.master_N, buffer.mean_N, buffer.square_N])
        assert torch.equal(buffer.copy_N, buffer.master_N.to(dtype)), "rounded to the nearest"
    for mine, other in zip(*found, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


def test_rows_without_a_gradient_move_as_by_a_gradient_of_zero(kernels: NativeKernels, rng: torch.Generator) -> None:
    """To the bit, whether they never had one or had one before; also when a training goes on with moments."""
    start = noise(rng, 10, E)
    steps = [{0: 1.0, 3: 2.0}, {3: -1.0, 9: 0.5}, {1: 1.0}]
    ended = []
    for sparse, begun_anew in ((False, False), (True, False), (True, True)):
        buffer = ParameterBuffer([nn.Parameter(start.clone())])
        for number, step in enumerate(steps, 1):
            words = torch.tensor(list(step))
            values = torch.tensor(list(step.values()))[:, None].expand(-1, E).contiguous()
            gradient = torch.sparse_coo_tensor(words[None], values, (10, E), check_invariants=True).coalesce()
            buffer.gradient_N = gradient if sparse else gradient.to_dense().flatten()
            corrections = torch.tensor([1 - 0.9**number, 1 - 0.999**number])
            rest = (torch.tensor(1e-2), torch.tensor(1.0), torch.tensor(False), corrections, (0.9, 0.999), 1e-8, 0.01)
            kernels.adamw(buffer, *rest)
            buffer.met_U = None if begun_anew else buffer.met_U
        ended.append((buffer.master_N, buffer.mean_N, buffer.square_N))
    for found in ended[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found, ended[0], strict=True))


@pytest.mark.parametrize("sparse", [True, False])
def test_moments_that_shrink_end_at_zero(kernels: NativeKernels, sparse: bool) -> None:
    """And not at the smallest numbers, which are slow to compute with; what they move is as if they had."""
    buffer = ParameterBuffer([nn.Parameter(torch.ones(2, E))])
    mean, square = buffer.mean_N.fill_(1e-20), buffer.square_N.fill_(1e-28)
    buffer.gradient_N = torch.zeros(2, E).to_sparse(1) if sparse else torch.zeros(2 * E)
    ones, met = torch.ones(2), []
    for _ in range(300):
        rest = (torch.tensor(1e-3), torch.tensor(1.0), torch.tensor(False), ones, (0.9, 0.9), 1e-8, 0.0)
        kernels.adamw(buffer, *rest)
        met += [mean.abs().min(), square.min()]
    assert all(moment == 0 or moment >= 1e-30 for moment in met) and not mean.any() and not square.any()
    assert torch.equal(buffer.master_N, torch.ones(2 * E))


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_threads_change_nothing(kernels: NativeKernels, rng: torch.Generator, threads: Callable[[int], None]) -> None:
    x, y, qkv, vector = noise(rng, T, E), noise(rng, T, E), noise(rng, T, 3 * E), noise(rng, 3 * E)
    found = []
    for count in (1, 2, 3):
        threads(count)
        parts_P3E, parts_PE = torch.empty(16, 3 * E), torch.empty(16, E)
        out, total, stats = kernels.add_norm(x, y, vector[:E], vector[:E], vector[:E], 1e-12, draw_at(1))
        back = kernels.add_norm_backward(y, total, stats, vector[:E], draw_at(1), parts_P3E)
        active, slope = kernels.gelu(x.clone(), vector[:E])
        dx = kernels.gelu_backward(y, slope, vector[:E], parts_PE)
        context, kept_HT2 = kernels.attend(qkv, vector, BOUNDS, 27, 27, H, draw_at(0))
        parts_S3E = torch.empty(len(LENGTHS), 3 * E)
        dqkv = kernels.attention_backward(y, qkv, vector, BOUNDS, 27, 27, context, kept_HT2, draw_at(0), parts_S3E)
        norm = kernels.norm([noise(torch.Generator().manual_seed(1), 300_000)])
        found.append([out, *back, parts_P3E, active, dx, parts_PE, context, dqkv, parts_S3E, norm])
    assert all(torch.equal(one, other) for more in found[1:] for one, other in zip(found[0], more, strict=True))


@pytest.mark.integration
@pytest.mark.parametrize(
    ("micro_batches", "sampling"),
    [(1, "joint"), (3, "joint"), (1, "proportional"), (1, "masked words"), (2, "masked words")],
)
def test_step_for_step_a_training_is_that_of_plain_layers(micro_batches: int, sampling: str) -> None:
    """As a whole and read in parts; one by one, as a CPU computes steps."""
    settings = STILL.model_copy(update={"max_grad_norm": 0.05})
    learners, sums = [], []
    for native in (True, False):
        learner: Any = tiny.mlm_learner(settings)
        if sampling != "masked words":
            learner = learner_of(settings, sampling=sampling)
        run = tiny.run_of(learner, settings)
        run.outcome.micro_batches = micro_batches
        stepper = EagerStepper(run, fuse(learner.model, run.optimizer, learner.machine, 32) if native else None)
        assert (stepper.fusion is not None) == native
        learners.append(learner)
        sums.append([*tiny.losses_of(stepper, run)])
    assert sums[0] == pytest.approx(sums[1], rel=1e-4)
    for name, p in learners[1].model.named_parameters():
        torch.testing.assert_close(learners[0].model.get_parameter(name), p, atol=1e-4, rtol=1e-3)


@pytest.mark.integration
def test_an_interruption_changes_nothing(tmp_path: Path) -> None:
    """Nor that the rows which have moments must be found anew."""
    ended, settings = [], tiny.training(epochs=2)
    for dies_at in (-1, 7):
        _, learner = tiny.finished(
            tmp_path / str(dies_at), lambda: learner_of(settings, sampling="annealed"), settings, make_stepper, dies_at
        )
        ended.append({name: p.detach().clone() for name, p in learner.model.named_parameters()})
    assert all(torch.equal(ended[0][name], ended[1][name]) for name in ended[0])


def test_a_gradient_that_is_not_finite_moves_nothing() -> None:
    learner = learner_of(STILL)
    stepper = make_stepper(learner, tiny.run_of(learner, STILL))
    learner.model.train()
    with torch.no_grad():
        learner.model.encoder.layers[0].intermediate.bias[3] = torch.inf
    stepper.start_epoch(0, 0, {})
    before = {name: p.detach().clone() for name, p in learner.model.named_parameters()}
    with pytest.raises(UserError, match="T01"):
        stepper.step()
    assert all(torch.equal(before[name], p) for name, p in learner.model.named_parameters())


def test_what_has_gradients_of_its_own_inside_stays_plain() -> None:
    for settings in (tiny.training(freeze_encoder=True), tiny.training(regularizer="smart")):
        learner = learner_of(settings)
        stepper = make_stepper(learner, tiny.run_of(learner, settings))
        assert isinstance(stepper, EagerStepper) and stepper.fusion is None


def test_a_processor_on_which_nobody_tried_them_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    without_what_was_made(monkeypatch)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    assert facts(tiny.MACHINE) == {"kernels": "none"}


@pytest.mark.integration
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_their_threads_are_those_of_pytorch() -> None:
    """Other libraries bring their own; a second one here would keep threads waiting in the way of the first's."""
    code = """
import torch
from yourbert.training.fused.native import NativeKernels

NativeKernels(torch.float32).norm([torch.ones(1 << 20)])
print(*{line.split()[-1] for line in open("/proc/self/maps") if "libgomp" in line or "libomp" in line})
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert len({os.path.realpath(path) for path in found}) == 1, found
