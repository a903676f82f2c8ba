"""The cost of a training: wall-clock time, CPU time and energy, and whether the energy was measured or estimated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True, kw_only=True)
class Cost:
    """seconds: wall-clock time. cpu_seconds: sum over all threads. measured: whether counters gave every joule."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    joules: float = 0.0
    measured: bool = True

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            seconds=self.seconds + other.seconds,
            cpu_seconds=self.cpu_seconds + other.cpu_seconds,
            joules=self.joules + other.joules,
            measured=self.measured and other.measured,
        )

    def to_json(self) -> dict[str, float]:
        """Numbers for a metrics file; the key of the energy says whether it was measured or estimated."""
        return {
            "seconds": round(self.seconds, 1),
            "cpu_seconds": round(self.cpu_seconds, 1),
            "kwh_measured" if self.measured else "kwh_estimated": round(self.joules / JOULES_PER_KWH, 9),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, float]) -> Cost:
        measured = "kwh_measured" in values
        kwh = values["kwh_measured" if measured else "kwh_estimated"]
        return cls(
            seconds=values["seconds"], cpu_seconds=values["cpu_seconds"], joules=kwh * JOULES_PER_KWH, measured=measured
        )
