"""What a training cost, and how its energy was found."""

from __future__ import annotations

from yourbert.core.cost import JOULES_PER_KWH, Cost


def test_the_name_of_the_energy_says_how_it_was_found() -> None:
    guessed = Cost(seconds=10.0, cpu_seconds=20.0, joules=JOULES_PER_KWH / 1000, measured=False)
    assert guessed.to_json() == {"seconds": 10.0, "cpu_seconds": 20.0, "kwh_estimated": 0.001}
    assert Cost.from_json(guessed.to_json()) == guessed
    counted = Cost(seconds=1.0, cpu_seconds=1.0, joules=JOULES_PER_KWH)
    assert Cost.from_json(counted.to_json()) == counted and "kwh_measured" in counted.to_json()
    assert not (counted + guessed).measured and (counted + guessed).seconds == 11.0
    assert Cost() + counted == counted
