"""Settings with several values -> experiments: each combination once, named by its content; errors are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from yourbert.core.errors import UserError
from yourbert.experiments.search.grid import expand


def test_every_combination_once_and_in_order(project: Path) -> None:
    found = expand("grid", ["lr=1e-5,3e-5", "tasks.sst.epochs=2,3"], [], cpus=1)
    assert [e.settings for e in found] == [
        (f"lr={lr}", f"tasks.sst.epochs={epochs}") for lr in ("1e-05", "3e-05") for epochs in (2, 3)
    ]
    assert len({e.name for e in found}) == 4
    assert all(e.name.startswith("grid-") for e in found)


def test_equal_experiments_have_equal_names(project: Path) -> None:
    def names(*settings: str, targets: tuple[str, ...] = ()) -> list[str]:
        return [e.name for e in expand("grid", settings, targets, cpus=1)]

    assert names("lr=1e-5") == names("lr=0.00001") == names("+lr=1e-5,0.00001")
    assert names("lr=1e-5", "epochs=2") == names("epochs=2", "lr=1e-5")
    assert names("lr=1e-5") != names("lr=2e-5")
    assert names("lr=1e-5") != names("lr=1e-5", targets=("evaluate",))
    assert names("seeds=[1,2],[3]") == [*names("seeds=[1,2]"), *names("seeds=[3]")]


def test_unset_threads_equal_the_cpus(project: Path) -> None:
    assert expand("grid", ["lr=1e-5"], [], cpus=3)[0].overrides[-1] == "++num_threads=3"
    assert expand("grid", ["num_threads=2"], [], cpus=3)[0].overrides == ("++num_threads=2",)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("lr=1e-5,high", "YB-P03 --set lr=high: 'lr' is the text 'high', expected a number"),
        ("epoch=1", "YB-P01 --set epoch=1: unknown key 'epoch'; did you mean 'epochs'?"),
        ("tasks.sst.epoch=1", "unknown key 'tasks.sst.epoch'; did you mean 'epochs'?"),
        ("tasks.ssst.epochs=1", "params.yaml has no 'tasks.ssst'; did you mean 'sst'?"),
        ("lr", "YB-P18 --set lr: expected key=value"),
        ("lr=[", "YB-P18 --set lr=["),
        ("~lr=1", "YB-P18"),
        ("=1", "YB-P18"),
    ],
)
def test_an_invalid_setting_is_refused(project: Path, setting: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        expand("grid", ["epochs=1,2", setting], [], cpus=1)
    assert message in str(caught.value).replace("--set epochs=1 ", "").replace("--set epochs=1,2 ", "")
