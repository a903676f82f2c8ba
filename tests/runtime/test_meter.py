"""What a training cost: counters where there are some, an estimate that says so elsewhere, nothing lost on resuming."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from yourbert.runtime.meter import SECONDS_BETWEEN_READINGS, WATTS_A_CORE, Meter, Rapl

CPU = torch.device("cpu")


def zone(root: Path, name: str, energy: int, turn: int = 1000) -> Path:
    """A folder of RAPL's, in microjoules."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "energy_uj").write_text(f"{energy}\n")
    (folder / "max_energy_range_uj").write_text(f"{turn}\n")
    return folder


def test_packages_are_summed_and_their_parts_are_not_counted_twice(tmp_path: Path) -> None:
    zones = {"intel-rapl:0": 5_000_000, "intel-rapl:1": 1_000_000, "intel-rapl:0:0": 4_000_000}
    for name, energy in zones.items():
        zone(tmp_path, name, energy)
    rapl = Rapl(tmp_path)
    assert rapl.readable
    for name, energy in zones.items():
        zone(tmp_path, name, energy + 2_000_000)
    assert rapl.joules() == pytest.approx(4.0)


def test_a_counter_that_starts_again_is_followed(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", 900_000, turn=1_000_000)
    rapl = Rapl(tmp_path)
    zone(tmp_path, "intel-rapl:0", 300_000, turn=1_000_000)
    assert rapl.joules() == pytest.approx(0.4)
    zone(tmp_path, "intel-rapl:0", 400_000, turn=1_000_000)
    assert rapl.joules() == pytest.approx(0.5)


@pytest.mark.parametrize("content", [None, "", "secret"])
def test_counters_that_cannot_be_read_give_an_estimate(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (zone(tmp_path, "intel-rapl:0", 1) / "energy_uj").write_text(content)
    meter = Meter(CPU, powercap=tmp_path)
    sum(range(300_000))
    cost = meter.read()
    assert not cost.measured and cost.seconds > 0 and cost.cpu_seconds > 0
    assert cost.joules == pytest.approx(WATTS_A_CORE * cost.cpu_seconds)


def test_a_long_run_reads_its_counters_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("yourbert.runtime.meter.time.monotonic", lambda: now)
    zone(tmp_path, "intel-rapl:0", 0, turn=1_000_000)
    meter = Meter(CPU, powercap=tmp_path)
    for energy in (700_000, 400_000, 100_000):  # each more than half a turn further on
        zone(tmp_path, "intel-rapl:0", energy, turn=1_000_000)
        now += SECONDS_BETWEEN_READINGS
        meter.tick()
    cost = meter.read()
    assert cost.measured and cost.joules == pytest.approx(2.1) and cost.seconds == 3 * SECONDS_BETWEEN_READINGS
