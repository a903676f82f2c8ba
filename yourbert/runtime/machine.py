"""Where and how numbers are computed: device, precision, threads, ranks and determinism, decided once and passed in.

The choice follows from what the processor reports, never from a timing, so that one machine always chooses alike.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from dataclasses import dataclass

import torch

from yourbert.config.schema import Runtime
from yourbert.core.errors import fail
from yourbert.core.seeding import seed_of
from yourbert.model.attention import Kernel
from yourbert.runtime.distributed import ALONE, Ranks, launched
from yourbert.runtime.gpu import prepare_gpu

# glibc's mallopt: keep freed blocks of any size in the process. A training step frees and takes the same large
# buffers again; handing them back to the system costs page faults each time.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, KEEP_BYTES = -1, -3, 2**30


@dataclass(frozen=True)
class Machine:
    """dtype: what the encoder computes in; its weights are always kept in fp32. threads: of each rank.

    kernel: its attention's. deterministic: whether the same work gives the same bytes. graph: whether a training step
    may be captured.
    """

    device: torch.device
    dtype: torch.dtype
    threads: int
    kernel: Kernel = "auto"
    deterministic: bool = True
    graph: bool = False
    ranks: Ranks = ALONE

    def facts(self) -> dict[str, str | int]:
        """What decides the bytes of a result, for the fingerprint of a run."""
        facts: dict[str, str | int] = {"ranks": self.ranks.world} if self.ranks.world > 1 else {}
        facts |= {
            "device": self.device.type,
            "dtype": str(self.dtype),
            "threads": self.threads,
            "torch": torch.__version__,
            "cpu": torch.backends.cpu.get_cpu_capability(),
        }
        if self.device.type == "cuda":
            facts["gpu"] = torch.cuda.get_device_name(self.device)
            facts |= {"kernel": self.kernel, "deterministic": self.deterministic}
        return facts


def prepare(runtime: Runtime, ranks: Ranks = ALONE) -> Machine:
    """Sets up the process and says what it will compute with. Raises UserError (P17) for what is not there.

    ranks: the place of this process among those that train one model (`distributed.here`); they meet here, and share
    the threads of their machine.
    """
    if runtime.num_processes > 1 and not launched():
        what = f"ranks is {runtime.num_processes}, but this is one process"
        fail("P17", what, where="params.yaml", fix="run the stage, or start the ranks with torchrun")
    device = find_device(runtime.device, ranks.local_world)
    if device.type == "cuda" and ranks.world > 1:
        device = torch.device("cuda", ranks.local_rank)
        torch.cuda.set_device(device)
    dtype = _dtype(runtime.precision, device)
    if runtime.num_threads or ranks.local_world > 1:
        torch.set_num_threads(max(1, (runtime.num_threads or torch.get_num_threads()) // ranks.local_world))
    deterministic = device.type == "cpu" or runtime.deterministic
    # What `use_deterministic_algorithms` does, without PyTorch's compiler, which that loads first (2 s).
    torch.set_deterministic_debug_mode("error" if deterministic else "default")
    # Deterministic mode would also fill every fresh buffer, a debugging aid that costs time; nothing here reads one.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if device.type == "cuda":
        gpu = prepare_gpu(device, dtype, deterministic)
        met = ranks.connect(device)
        return Machine(device, dtype, torch.get_num_threads(), gpu.kernel, deterministic, gpu.graph, met)
    # The moments of words not met for 800 steps decay below the normal range; Intel's units then take ten times
    # as long over an optimizer step (LOG.md). Below 1e-38 is 0 to the weights either way.
    torch.set_flush_denormal(True)
    _keep_memory()
    _route_matmul()
    return Machine(device, dtype, torch.get_num_threads(), ranks=ranks.connect(device))


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """The torch generator of one purpose. Weights are drawn on the CPU, so that they are the same for any device."""
    return torch.Generator().manual_seed(seed_of(seed, *purpose))


def find_device(wanted: str, ranks: int = 1) -> torch.device:
    """The kind of device that `wanted` names. Raises UserError (P17) when there is none for each of the ranks."""
    if wanted == "cuda" and not torch.cuda.is_available():
        fail("P17", "device is cuda, but this machine shows no GPU", where="params.yaml", fix="set device: auto")
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and ranks > 1 and ranks > torch.cuda.device_count():
        what = f"{ranks} ranks need a GPU each, but this machine shows {torch.cuda.device_count()}"
        fail("P17", what, where="params.yaml", fix=f"set ranks: {torch.cuda.device_count()}, or device: cpu")
    return torch.device(wanted, torch.cuda.current_device()) if wanted == "cuda" else torch.device(wanted)


def computes_bf16(device: torch.device) -> bool:
    """Whether the processor multiplies bf16 in hardware; elsewhere it is emulated and far slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    facts = torch.backends.cpu.get_cpu_capability()
    return facts.startswith("AVX512") and "avx512_bf16" in _reported("flags")


def prefers_bf16(device: torch.device) -> bool:
    """Whether bf16 is also the faster choice: Intel's vector units multiply it at half the rate of fp32 (LOG.md)."""
    intel_without_amx = "GenuineIntel" in _reported("vendor_id") and "amx_bf16" not in _reported("flags")
    return computes_bf16(device) and (device.type == "cuda" or not intel_without_amx)


def _reported(field: str) -> list[str]:
    """The words of a field of the first processor in /proc/cpuinfo; none where there is no such file."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            return next((line.split() for line in file if line.startswith(field)), [])
    except OSError:
        return []


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    if precision == "auto":
        return torch.bfloat16 if prefers_bf16(device) else torch.float32
    if precision == "bf16" and not computes_bf16(device):
        fail(
            "P17",
            "precision is bf16, which this processor does not compute in",
            where="params.yaml",
            fix="set precision: auto",
        )
    return torch.bfloat16 if precision == "bf16" else torch.float32


def release_memory() -> None:
    """Gives memory that nothing uses back to the system, for a process that runs for long (glibc alone)."""
    _tell_glibc("malloc_trim", 0)


def _keep_memory() -> None:
    _tell_glibc("mallopt", M_MMAP_THRESHOLD, KEEP_BYTES)
    _tell_glibc("mallopt", M_TRIM_THRESHOLD, KEEP_BYTES)


def _tell_glibc(function: str, *numbers: int) -> None:
    """Calls one of its functions; elsewhere nothing happens."""
    with suppress(OSError, AttributeError):
        getattr(ctypes.CDLL("libc.so.6"), function)(*numbers)


def _route_matmul() -> None:
    """Sends fp32 matrix products to oneDNN where that is the faster library and keeps fp32 exact.

    That is on AMD processors, where it is twice as fast as the default one. The setting permits bf16 inside the
    product, of which oneDNN makes use only with AMX; so it is taken back when a product comes out less exact than fp32.
    """
    if "AuthenticAMD" not in _reported("vendor_id"):
        return
    a = torch.linspace(-1, 1, 64 * 256).reshape(64, 256)
    exact = (a.double() @ a.double().T).float()
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    matmul.fp32_precision = "bf16"
    # Additions in another order move the largest by up to 4e-7 of itself, rounding to bf16 by 1e-4.
    if (a @ a.T - exact).abs().max() > 1e-5 * exact.abs().max():
        matmul.fp32_precision = "ieee"
