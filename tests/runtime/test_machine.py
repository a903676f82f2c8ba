"""What is computed with follows from the machine, and what is not there is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from yourbert.config.schema import Runtime
from yourbert.core.errors import UserError
from yourbert.runtime import machine
from yourbert.runtime.machine import prefers_bf16, prepare

CPU = torch.device("cpu")


def test_precision_follows_the_processor() -> None:
    machine = prepare(Runtime(device="cpu", precision="auto", num_threads=0, deterministic=False))
    assert machine.dtype == (torch.bfloat16 if prefers_bf16(CPU) else torch.float32)
    assert prepare(Runtime(device="cpu", precision="fp32", num_threads=0, deterministic=False)).dtype == torch.float32


@pytest.mark.parametrize(
    ("vendor", "flags", "bf16"),
    [
        ("AuthenticAMD", ["avx512_bf16"], True),
        ("AuthenticAMD", ["avx512f"], False),
        ("GenuineIntel", ["avx512_bf16"], False),
        ("GenuineIntel", ["avx512_bf16", "amx_bf16"], True),
        ("", [], False),
    ],
)
def test_bf16_is_chosen_where_it_is_the_faster(
    monkeypatch: pytest.MonkeyPatch, vendor: str, flags: list[str], bf16: bool
) -> None:
    reported = {"vendor_id": ["vendor_id", ":", vendor], "flags": ["flags", ":", *flags]}
    monkeypatch.setattr(machine, "_reported", reported.__getitem__)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert prefers_bf16(CPU) == bf16


def test_fp32_products_stay_fp32() -> None:
    prepare(Runtime(device="cpu", precision="fp32", num_threads=0, deterministic=False))
    a = torch.randn(64, 300, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close((a @ a.T).double(), a.double() @ a.double().T, atol=1e-4, rtol=1e-5)
    if "AuthenticAMD" in machine._reported("vendor_id"):
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16", "and are computed by oneDNN"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("vendor", "product", "taken"),
    [
        ("AuthenticAMD", lambda a, b: torch.matmul(a.bfloat16(), b.bfloat16()).float(), "ieee"),
        ("AuthenticAMD", lambda a, b: torch.matmul(a, b) + 2e-4, "bf16"),  # as far as oneDNN's is off on a Zen 5
        ("GenuineIntel", torch.matmul, "none"),
    ],
)
def test_products_go_to_onednn_where_it_is_faster_and_exact(
    monkeypatch: pytest.MonkeyPatch, vendor: str, product: Callable[[Tensor, Tensor], Tensor], taken: str
) -> None:
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = matmul.fp32_precision
    matmul.fp32_precision = "none"
    monkeypatch.setattr(machine, "_reported", lambda field: [field, ":", vendor])
    exact = torch.Tensor.__matmul__

    def inexact(a: Tensor, b: Tensor) -> Tensor:
        return exact(a, b) if a.dtype == torch.float64 else product(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", inexact)
    try:
        machine._route_matmul()
        assert matmul.fp32_precision == taken
    finally:
        matmul.fp32_precision = before


def test_the_smallest_numbers_are_zero_on_a_cpu() -> None:
    prepare(Runtime(device="cpu", precision="fp32", num_threads=0, deterministic=False))
    assert not (torch.full((64,), torch.finfo(torch.float32).tiny) * 0.5).any()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_is_refused() -> None:
    with pytest.raises(UserError, match="P17") as caught:
        prepare(Runtime(device="cuda", precision="auto", num_threads=0, deterministic=False))
    assert caught.value.exit_code == 2
