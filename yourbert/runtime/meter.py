"""Measures the cost of a training: wall-clock time, CPU time, and energy where the machine has counters for it.

RAPL counts the energy of the processor packages, with all processes on them; NVML counts the energy of a GPU. A virtual
machine has neither, and RAPL often needs root. Then a busy core is estimated at 10 W and a GPU at 400 W, and the cost
is marked as an estimate.
"""

from __future__ import annotations

import ctypes
import time
from pathlib import Path

import numpy as np
import torch

from yourbert.core.cost import Cost
from yourbert.runtime.distributed import ALONE, Ranks

POWERCAP = Path("/sys/class/powercap")
# A server's processor draws 200 to 350 W with 24 to 64 busy cores; memory and fans add to it.
WATTS_A_CORE = 10.0
# Between the rated power of an A100 (400 W) and what an H100 (700 W) draws at small batches.
WATTS_A_GPU = 400.0
# RAPL's counter overflows within an hour, so it is read more often.
SECONDS_BETWEEN_READINGS = 60.0


class Rapl:
    """Joules of the machine's processor packages since construction; `readable` if it has such counters."""

    def __init__(self, root: Path = POWERCAP) -> None:
        self._joules = 0.0
        self._zones = [zone for zone in sorted(root.glob("intel-rapl:*")) if zone.name.count(":") == 1]
        self._last = self._read()
        self._turn = [_number(zone / "max_energy_range_uj") or 0 for zone in self._zones]

    @property
    def readable(self) -> bool:
        return bool(self._last)

    def joules(self) -> float:
        now = self._read()
        for before, after, turn in zip(self._last, now, self._turn, strict=False):
            self._joules += (after - before + (turn if after < before else 0)) / 1e6
        self._last = now
        return self._joules

    def _read(self) -> list[int]:
        found = [_number(zone / "energy_uj") for zone in self._zones]
        return [] if None in found else [value for value in found if value is not None]


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


class Nvml:
    """Joules of one GPU since construction, by NVIDIA's management library, which comes with the driver."""

    def __init__(self, device: torch.device) -> None:
        self._handle, self._uuid = ctypes.c_void_p(), f"GPU-{torch.cuda.get_device_properties(device).uuid}".encode()
        self._first = self._millijoules()

    @property
    def readable(self) -> bool:
        return self._first is not None

    def joules(self) -> float:
        return ((self._millijoules() or 0) - (self._first or 0)) / 1e3

    def _millijoules(self) -> int | None:
        total, handle = ctypes.c_ulonglong(), ctypes.byref(self._handle)
        try:
            library = ctypes.CDLL("libnvidia-ml.so.1")
            failed = library.nvmlInit_v2() or library.nvmlDeviceGetHandleByUUID(self._uuid, handle)
            failed = failed or library.nvmlDeviceGetTotalEnergyConsumption(self._handle, ctypes.byref(total))
        except (OSError, AttributeError):
            return None
        return None if failed else total.value


class Meter:
    """The cost since construction. Every rank counts its own, and one rank per machine the processor packages."""

    def __init__(self, device: torch.device, ranks: Ranks = ALONE, powercap: Path = POWERCAP) -> None:
        self._started, self._cpu = time.monotonic(), time.process_time()
        self._rapl, self._ranks = Rapl(powercap), ranks
        self._gpu = Nvml(device) if device.type == "cuda" else None
        self._next = self._started + SECONDS_BETWEEN_READINGS

    def tick(self) -> None:
        """Reads the energy counter if needed; call it regularly, so that no overflow is missed."""
        if time.monotonic() >= self._next:
            self._next += SECONDS_BETWEEN_READINGS
            self._rapl.joules()

    def read(self) -> Cost:
        """The cost so far, summed over all ranks; a collective, which every rank must call."""
        seconds, cpu_seconds = time.monotonic() - self._started, time.process_time() - self._cpu
        if self._rapl.readable:
            joules, measured = self._rapl.joules() if self._ranks.local_rank == 0 else 0.0, True
        else:
            joules, measured = WATTS_A_CORE * cpu_seconds, False
        if self._gpu is not None:
            joules += self._gpu.joules() if self._gpu.readable else WATTS_A_GPU * seconds
            measured = measured and self._gpu.readable
        cpu_seconds, joules, guessed = self._ranks.sum(np.array([cpu_seconds, joules, not measured])).tolist()
        return Cost(seconds=seconds, cpu_seconds=cpu_seconds, joules=joules, measured=not guessed)
