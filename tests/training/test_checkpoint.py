"""An interrupted run ends in the same weights; its state has one writer, and tells runs apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import tiny
from tests.support.interrupted import CutOff, interrupted, pair_of_tasks, run
from tests.support.tiny import same, weights
from yourbert.core.cost import Cost
from yourbert.core.errors import UserError
from yourbert.training.checkpoint import Resume, fingerprint

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("dies_at", [3, 10, 13, 24, 30])
@pytest.mark.parametrize("sampling", ["joint", "proportional"])
def test_interrupted_is_uninterrupted(tmp_path: Path, dies_at: int, sampling: str) -> None:
    """An epoch of the two tasks has 10 (joint) or 20 steps: cut in the first epoch, at its end, and later."""
    settings = tiny.training(epochs=4)
    whole = pair_of_tasks(settings, sampling=sampling)
    expected = run(tmp_path / "whole", whole, settings)

    with pytest.raises(CutOff):
        run(tmp_path / "cut", interrupted(settings, {"sampling": sampling}, dies_at=dies_at), settings, seconds=0)
    again = interrupted(settings, {"sampling": sampling})
    outcome = run(tmp_path / "cut", again, settings, seconds=0)
    assert again.steps_taken == [*range(dies_at, expected.steps)], "no step is taken twice"
    assert same(weights(again.model), weights(whole.model))
    assert outcome == expected
    assert not (tmp_path / "cut" / "resume").exists(), "the state goes when the run succeeds"


def test_a_run_that_goes_on_counts_what_it_cost_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "yourbert.training.loop.Meter.read", lambda meter: Cost(seconds=10.0, joules=3.0, measured=False)
    )
    settings = tiny.training(epochs=4)
    with pytest.raises(CutOff):
        run(tmp_path, interrupted(settings, {"sampling": "joint"}, dies_at=25), settings, seconds=0)
    cost = run(tmp_path, pair_of_tasks(settings, sampling="joint"), settings, seconds=0).cost
    assert cost == Cost(seconds=20.0, joules=6.0, measured=False)


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with (
        Resume(tmp_path / "x"),
        pytest.raises(UserError, match="already being trained by process"),
        Resume(tmp_path / "x"),
    ):
        pass


def test_fingerprints_tell_runs_apart() -> None:
    facts = {"lr": 1e-5, "tokens": {"sst": "abc"}}
    assert fingerprint(facts) == fingerprint(dict(reversed(facts.items())))
    assert fingerprint(facts) != fingerprint({**facts, "lr": 2e-5})
