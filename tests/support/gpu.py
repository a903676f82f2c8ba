"""Tests that need a GPU: marked `cuda`, skipped without one, and leaving PyTorch's switches as they found them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TypeVar

import pytest
import torch

from tests.support import tiny
from yourbert.config.schema import Runtime
from yourbert.runtime.machine import Machine, prepare
from yourbert.training.graph.graph_step import GraphStep
from yourbert.training.loop import EagerStepper

T = TypeVar("T", bound=Callable[..., object])


def on_a_gpu(test: T) -> T:
    for mark in (
        pytest.mark.cuda,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
        pytest.mark.usefixtures("gpu_as_before"),
    ):
        test = mark(test)
    return test


def machine_of(deterministic: bool = False, precision: str = "auto") -> Machine:
    return prepare(Runtime(device="cuda", precision=precision, num_threads=0, deterministic=deterministic))  # type: ignore[arg-type]


def curve(stepper: GraphStep | EagerStepper, steps: int = 50) -> list[float]:
    """The sum of all losses so far, after each step."""
    found = [*islice(tiny.losses_of(stepper, stepper.run), steps)]
    assert len(found) == steps, "the run is as long as that"
    return found
