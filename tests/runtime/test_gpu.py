"""What a GPU is used for follows from what it was seen to do; tests marked `cuda` try the GPU itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.support.gpu import machine_of, on_a_gpu
from yourbert.config.schema import Runtime
from yourbert.runtime import gpu, machine
from yourbert.runtime.gpu import FAULTS, Abilities, capture, decide, described, dropout_generator, fault, prepare_gpu

CUDA, BF16, FP32 = torch.device("cuda", 0), torch.bfloat16, torch.float32


@pytest.fixture(autouse=True)
def deterministic_again() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(True)


@pytest.fixture
def working(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that can do everything."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "H100")
    monkeypatch.setattr(gpu, "try_flash", lambda device, dtype: None)
    monkeypatch.setattr(gpu, "try_graph", lambda device: None)


def refuse(*facts: object) -> None:
    raise RuntimeError("no kernel image is available\nfor execution on the device")


@pytest.mark.usefixtures("working")
def test_a_gpu_that_can_do_everything_does(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "yourbert"):
        assert prepare_gpu(CUDA, BF16, deterministic=False) == Abilities("auto", True, ())
    assert caplog.messages == ["computing on H100: bf16, flash attention, each training step a graph"]


@pytest.mark.usefixtures("working")
@pytest.mark.parametrize(
    ("dtype", "deterministic", "says"),
    [(BF16, True, "no flash attention (deterministic: true)"), (FP32, False, "no flash attention (it needs bf16)")],
)
def test_what_rules_flash_attention_out(
    dtype: torch.dtype, deterministic: bool, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "try_flash", refuse)
    found = prepare_gpu(CUDA, dtype, deterministic)
    assert found == Abilities("grouped", True, (says,))


@pytest.mark.usefixtures("working")
@pytest.mark.parametrize("attempt", ["try_flash", "try_graph"])
def test_what_fails_is_left_out_and_the_reason_said_in_one_line(
    attempt: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(gpu, attempt, refuse)
    with caplog.at_level("INFO", "yourbert"):
        found = prepare_gpu(CUDA, BF16, deterministic=False)
    assert (found.kernel, found.graph) == (("grouped", True) if attempt == "try_flash" else ("auto", False))
    assert len(caplog.messages) == 1 and caplog.messages[0].endswith("(no kernel image is available)")


def test_nothing_works() -> None:
    found = decide("a", "b")
    assert found == Abilities("grouped", False, ("no flash attention (a)", "no graphs (b)"))
    assert "fp32, grouped attention, operations one by one; no flash" in described("T4", FP32, found)


def test_the_reason_is_the_first_error_of_those_that_led_to_each_other() -> None:
    def attempt() -> None:
        try:
            refuse()
        finally:
            raise RuntimeError("the capture could not be ended")

    assert fault(attempt) == "no kernel image is available"
    assert fault(lambda: None) == ""
    with pytest.raises(KeyboardInterrupt):
        fault(lambda: (_ for _ in ()).throw(KeyboardInterrupt))  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_both_attempts_fail_without_a_trace() -> None:
    assert fault(lambda: gpu.try_flash(torch.device("cpu"), BF16))
    assert fault(lambda: gpu.try_graph(torch.device("cpu")))


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (9, 0)])
@pytest.mark.parametrize("deterministic", [False, True])
def test_the_machine_follows_from_what_the_gpu_reports(
    capability: tuple[int, int], deterministic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(machine, "prepare_gpu", lambda *facts: Abilities("grouped", True, ()))
    made = machine.prepare(Runtime(device="auto", precision="auto", num_threads=0, deterministic=deterministic))
    assert made.device == CUDA
    assert made.dtype == (FP32 if capability < (8, 0) else BF16)
    assert torch.are_deterministic_algorithms_enabled() == made.deterministic == deterministic
    assert (made.kernel, made.graph) == ("grouped", True)
    facts = made.facts()
    assert (facts["gpu"], facts["kernel"], facts["deterministic"]) == ("a card", "grouped", deterministic)


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_cpu_gives_the_same_bytes_either_way(deterministic: bool) -> None:
    made = machine.prepare(Runtime(device="cpu", precision="fp32", num_threads=0, deterministic=deterministic))
    assert torch.are_deterministic_algorithms_enabled() and made.deterministic
    assert made == machine.prepare(Runtime(device="cpu", precision="fp32", num_threads=0, deterministic=False))
    assert not {"gpu", "kernel", "deterministic"} & made.facts().keys(), "a run's name stays as it was"


def test_on_a_cpu_dropout_has_a_generator_of_its_own() -> None:
    one, other = (dropout_generator(torch.device("cpu")) for _ in range(2))
    assert one is not other and one is not torch.default_generator


@on_a_gpu
def test_this_gpu_can_do_what_it_should() -> None:
    """On a card since Ampere, with a driver of its time, nothing may be missing: else all below tests less."""
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("an older card")
    machine = machine_of()
    assert (machine.dtype, machine.kernel, machine.graph) == (torch.bfloat16, "auto", True)
    assert machine_of(deterministic=True).kernel == "grouped"


@on_a_gpu
def test_a_broken_capture_raises_what_the_callers_expect() -> None:
    device = torch.device("cuda", 0)
    machine_of()
    x = torch.ones(4, device=device)
    with pytest.raises(FAULTS):
        capture(lambda: x.sum().item(), device)
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    assert torch.rand(4, device=device, generator=dropout_generator(device)).sum() > 0
