"""Fixtures of several test files."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

# Beside other workers of pytest-xdist threads wait for each other: so one for each, and for what it starts.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def keep_denormals() -> Iterator[None]:
    """Hypothesis draws denormal numbers, and training in this very process flushes them from then on."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture
def gpu_as_before() -> Iterator[None]:
    yield
    torch.cuda.set_sync_debug_mode("default")
    torch.use_deterministic_algorithms(True)


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[object], None]:
    """For what a test found out beside that it passed: the suite says it in its last lines."""
    return partial(record_property, "figure")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.getreports("passed"):
        for name, found in report.user_properties:
            if name == "figure" and report.when == "call":
                terminalreporter.write_line(f"{report.nodeid}: {found}")


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of the real all-MiniLM-L6-v2: $YOURBERT_MINILM, or what the pipeline downloaded."""
    folder = Path(os.environ.get("YOURBERT_MINILM", "build/base"))
    if not (folder / "model.safetensors").is_file():
        pytest.skip(f"no weights in {folder}: set YOURBERT_MINILM, or run `dvc repro download`")
    return folder
