"""Device, precision, threads, ranks and determinism: decided once per process and passed to what computes.

The choice follows from what the processor reports, never from a timing, so a machine always makes the same choice.
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

# glibc's mallopt: keep freed blocks of any size in the process. Each training step frees and allocates the same large
# buffers; returning them to the system would cause page faults in every step.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, KEEP_BYTES = -1, -3, 2**30


@dataclass(frozen=True)
class Machine:
    """dtype: of the encoder's computations; its weights are always stored in fp32. threads: of each rank.

    kernel: the attention kernel. deterministic: whether equal computations give equal bytes. graph: whether a training
    step may be captured as a CUDA graph.
    """

    device: torch.device
    dtype: torch.dtype
    threads: int
    kernel: Kernel = "auto"
    deterministic: bool = True
    graph: bool = False
    ranks: Ranks = ALONE

    def facts(self) -> dict[str, str | int]:
        """What determines the bytes of a result, for the fingerprint of a run."""
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
    """Sets up the process. Raises UserError (P17) for a device, a precision or ranks that this machine does not have.

    ranks: the processes that train one model, as `distributed.here` returns them; they are connected here, and those of
    a machine share its threads.
    """
    if runtime.num_processes > 1 and not launched():
        what = f"num_processes is {runtime.num_processes}, but this is one process"
        fail("P17", what, where="params.yaml", fix="run the stage, or start the processes with torchrun")
    device = find_device(runtime.device, ranks.local_world)
    if device.type == "cuda" and ranks.world > 1:
        device = torch.device("cuda", ranks.local_rank)
        torch.cuda.set_device(device)
    dtype = _dtype(runtime.precision, device)
    if runtime.num_threads or ranks.local_world > 1:
        torch.set_num_threads(max(1, (runtime.num_threads or torch.get_num_threads()) // ranks.local_world))
    deterministic = device.type == "cpu" or runtime.deterministic
    # The effect of `use_deterministic_algorithms`, which would also import PyTorch's compiler (2 s).
    torch.set_deterministic_debug_mode("error" if deterministic else "default")
    # Deterministic mode would also fill every new buffer, a debugging aid that costs time; none is read unwritten.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if device.type == "cuda":
        gpu = prepare_gpu(device, dtype, deterministic)
        met = ranks.connect(device)
        return Machine(device, dtype, torch.get_num_threads(), gpu.kernel, deterministic, gpu.graph, met)
    # The moments of words that did not occur for 800 steps become denormal, and an optimizer step then takes ten times
    # as long on Intel's units (LOG.md). A moment below 1e-38 moves no weight, so flushing it to 0 changes nothing.
    torch.set_flush_denormal(True)
    _keep_memory()
    _route_matmul()
    return Machine(device, dtype, torch.get_num_threads(), ranks=ranks.connect(device))


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """The torch generator of one purpose, on the CPU, so that weights are initialized equally for every device."""
    return torch.Generator().manual_seed(seed_of(seed, *purpose))


def find_device(wanted: str, ranks: int = 1) -> torch.device:
    """The device for `wanted` ("auto", "cpu", "cuda"). Raises UserError (P17) if not every rank can have one."""
    if wanted == "cuda" and not torch.cuda.is_available():
        fail("P17", "device is cuda, but PyTorch finds no GPU", where="params.yaml", fix="set device: auto")
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and ranks > 1 and ranks > torch.cuda.device_count():
        what = f"{ranks} processes need a GPU each, but PyTorch finds {torch.cuda.device_count()}"
        fail("P17", what, where="params.yaml", fix=f"set num_processes: {torch.cuda.device_count()}, or device: cpu")
    return torch.device(wanted, torch.cuda.current_device()) if wanted == "cuda" else torch.device(wanted)


def computes_bf16(device: torch.device) -> bool:
    """Whether the device has bf16 matrix instructions; without them bf16 is emulated, and far slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    facts = torch.backends.cpu.get_cpu_capability()
    return facts.startswith("AVX512") and "avx512_bf16" in _reported("flags")


def prefers_bf16(device: torch.device) -> bool:
    """Whether bf16 is also faster than fp32: Intel's vector units multiply it at half the rate of fp32 (LOG.md)."""
    intel_without_amx = "GenuineIntel" in _reported("vendor_id") and "amx_bf16" not in _reported("flags")
    return computes_bf16(device) and (device.type == "cuda" or not intel_without_amx)


def _reported(field: str) -> list[str]:
    """The words of a field of the first processor in /proc/cpuinfo; empty where there is no such file."""
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
            "precision is bf16, but this processor has no bf16 instructions",
            where="params.yaml",
            fix="set precision: auto",
        )
    return torch.bfloat16 if precision == "bf16" else torch.float32


def release_memory() -> None:
    """Returns unused memory to the system, for a long-running process (only with glibc)."""
    _tell_glibc("malloc_trim", 0)


def _keep_memory() -> None:
    _tell_glibc("mallopt", M_MMAP_THRESHOLD, KEEP_BYTES)
    _tell_glibc("mallopt", M_TRIM_THRESHOLD, KEEP_BYTES)


def _tell_glibc(function: str, *numbers: int) -> None:
    """Calls a function of glibc; does nothing with another C library."""
    with suppress(OSError, AttributeError):
        getattr(ctypes.CDLL("libc.so.6"), function)(*numbers)


def _route_matmul() -> None:
    """Computes fp32 matrix products by oneDNN on AMD processors, where it is twice as fast as the default library.

    The setting also permits bf16 inside the product, which oneDNN uses only with AMX. So the setting is reset if a test
    product is less exact than fp32.
    """
    if "AuthenticAMD" not in _reported("vendor_id"):
        return
    a = torch.linspace(-1, 1, 64 * 256).reshape(64, 256)
    exact = (a.double() @ a.double().T).float()
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    matmul.fp32_precision = "bf16"
    # Another order of summation changes the largest element by up to 4e-7 of itself, rounding to bf16 by 1e-4.
    if (a @ a.T - exact).abs().max() > 1e-5 * exact.abs().max():
        matmul.fp32_precision = "ieee"
