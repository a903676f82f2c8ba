"""Capabilities of the GPU, tested once at the start: flash attention, and CUDA graphs.

What fails the test is not used, and a log line gives the reason. Without flash attention the grouped kernel is used;
without graphs the same operations are launched one by one. So of the two only the attention kernel affects a result.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from yourbert.model.attention import Kernel, Layout, attend

logger = logging.getLogger("yourbert")
# The exceptions of an old driver, of a GPU without the kernel, and of a build without the operation.
FAULTS = (RuntimeError, NotImplementedError, AttributeError, AssertionError)


@dataclass(frozen=True)
class Abilities:
    """kernel: the attention kernel, "auto" where flash attention works. graph: whether a step may be captured.

    missing: the capabilities that are not used, with reasons.
    """

    kernel: Kernel
    graph: bool
    missing: tuple[str, ...]


def prepare_gpu(device: torch.device, dtype: torch.dtype, deterministic: bool) -> Abilities:
    """Sets up the process for a GPU, tests its capabilities, and logs them in one line."""
    if deterministic:
        # Read when the first product is computed: without it some products have no deterministic order.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        flash_fault = "deterministic: true"
    elif dtype != torch.bfloat16:
        flash_fault = "it needs bf16"
    else:
        flash_fault = fault(lambda: try_flash(device, dtype))
    found = decide(flash_fault, fault(lambda: try_graph(device)))
    logger.info("%s", described(torch.cuda.get_device_name(device), dtype, found))
    return found


def decide(flash_fault: str, graph_fault: str) -> Abilities:
    """What is used, given the reason why each capability failed, "" if it works."""
    faults = {"flash attention": flash_fault, "graphs": graph_fault}
    missing = tuple(f"no {what} ({why})" for what, why in faults.items() if why)
    return Abilities("grouped" if flash_fault else "auto", not graph_fault, missing)


def described(name: str, dtype: torch.dtype, found: Abilities) -> str:
    attention = "flash attention" if found.kernel == "auto" else "grouped attention"
    steps = "each training step a graph" if found.graph else "operations one by one"
    precision = "bf16" if dtype == torch.bfloat16 else "fp32"
    return "; ".join([f"computing on {name}: {precision}, {attention}, {steps}", *found.missing])


def fault(attempt: Callable[[], None]) -> str:
    """Why an attempt failed, in one line; "" if it succeeded."""
    try:
        attempt()
    except FAULTS as error:
        return reason(error)
    return ""


def reason(error: BaseException) -> str:
    """The first line of an error, or of the error during whose handling it was raised, which is the cause."""
    while error.__context__ is not None:
        error = error.__context__
    return (str(error) or type(error).__name__).splitlines()[0]


def try_flash(device: torch.device, dtype: torch.dtype) -> None:
    """Runs forward and backward with dropout, and compares them without dropout to the grouped kernel."""
    layout = Layout.build([0, 5, 6, 40], 40, device)
    qkv = torch.randn(40, 3 * 64, generator=torch.Generator().manual_seed(0)).to(device, dtype).requires_grad_()
    results = []
    kernels: tuple[Kernel, ...] = ("flash", "grouped")
    for kernel in kernels:
        context = attend(qkv, layout, 2, kernel=kernel)
        (gradient,) = torch.autograd.grad(context.float().square().sum(), qkv)
        results.append(torch.cat([context, gradient], 1).float())
    if not torch.allclose(results[0], results[1], atol=0.1, rtol=0.1):
        raise RuntimeError("it differs from the grouped kernel")
    dropped = attend(qkv, layout, 2, 0.5, dropout_generator(device), "flash")
    (gradient,) = torch.autograd.grad(dropped.float().sum(), qkv)
    if not torch.isfinite(gradient).all():
        raise RuntimeError("its gradient is not finite")


def try_graph(device: torch.device) -> None:
    """Replays a captured graph, and checks that its draws follow the seed that was set before the replay."""
    rng, x = dropout_generator(device), torch.zeros(8, device=device)
    graph = capture(lambda: x.add_(1).mul_(torch.rand(8, device=device, generator=rng)), device)
    drawn: list[Tensor] = []
    for seed in (1, 1, 2):
        x.zero_()
        rng.manual_seed(seed)
        graph.replay()
        drawn.append(x.clone())
    if not torch.equal(drawn[0], drawn[1]) or torch.equal(drawn[0], drawn[2]):
        raise RuntimeError("a replayed graph does not follow the seed")


def capture(work: Callable[[], object], device: torch.device, pool: Any = None) -> torch.cuda.CUDAGraph:
    """Captures a call that has been warmed up. Graphs of one pool share memory, so only one of them runs at a time.

    Raises one of `FAULTS` for work that cannot be captured; the process can then continue without graphs.
    """
    graph, stream = torch.cuda.CUDAGraph(), side_stream(device)
    try:
        # The outer context restores the stream where the inner one fails to.
        with (
            torch.cuda.stream(stream),
            torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"),
        ):
            work()
    except FAULTS:
        # After a failed capture the generator still expects the end of it; a new state resets it.
        dropout_generator(device).graphsafe_set_state(torch.Generator(device).graphsafe_get_state())
        raise
    return graph


def side_stream(device: torch.device) -> torch.cuda.Stream:
    """The stream for warming up and capturing graphs; autograd's gradient accumulators stay bound to their stream."""
    return _stream_of(_index(device))


@cache
def _stream_of(index: int) -> torch.cuda.Stream:
    return torch.cuda.Stream(index)  # type: ignore[no-untyped-call]


def dropout_generator(device: torch.device) -> torch.Generator:
    """The generator for the dropout of training, seeded before each step.

    On a GPU it is the default one of the device: flash attention uses no other, and a graph that uses it reads the
    current seed at each replay.
    """
    if device.type != "cuda":
        return torch.Generator(device)
    torch.cuda.init()  # type: ignore[no-untyped-call]
    return torch.cuda.default_generators[_index(device)]


def _index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index
