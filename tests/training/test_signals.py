"""Asked to stop, a training saves what it has; asked twice, it stops at once."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support import tiny
from tests.support.interrupted import interrupted, pair_of_tasks, run
from tests.support.tiny import same, weights

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("when", "asks", "ends", "goes_on_at"),
    [
        ({"asked_at": 3}, (signal.SIGTERM,), SystemExit, 4),
        ({"asked_at": 13}, (signal.SIGINT,), KeyboardInterrupt, 14),
        ({"asked_at": 19}, (signal.SIGTERM,), SystemExit, 20),
        ({"asked_while_evaluating": 1}, (signal.SIGTERM,), SystemExit, 20),
        ({"asked_while_evaluating": 0}, (signal.SIGINT,), KeyboardInterrupt, 10),
    ],
)
def test_asked_to_stop_it_saves_and_goes_on_from_there(
    tmp_path: Path, when: dict[str, object], asks: tuple[int, ...], ends: type[BaseException], goes_on_at: int
) -> None:
    """Though no minute has passed: at the end of the step, in an evaluation at once."""
    settings, mixture = tiny.training(epochs=4), {"sampling": "joint"}
    whole = pair_of_tasks(settings, sampling="joint")
    expected = run(tmp_path / "whole", whole, settings)
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(ends) as caught:
        run(tmp_path / "cut", interrupted(settings, mixture, **when, asks=asks), settings)
    if isinstance(caught.value, SystemExit):
        assert caught.value.code == 128 + signal.SIGTERM
    again = interrupted(settings, mixture)
    outcome = run(tmp_path / "cut", again, settings)
    assert again.steps_taken == [*range(goes_on_at, expected.steps)]
    assert same(weights(again.model), weights(whole.model)) and outcome == expected
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_asked_twice_it_stops_at_once(tmp_path: Path) -> None:
    settings = tiny.training()
    learner = interrupted(settings, asked_at=3, asks=(signal.SIGINT, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, learner, settings)
    assert not (tmp_path / "resume" / "state.safetensors").exists(), "the step was not finished, so nothing was saved"
