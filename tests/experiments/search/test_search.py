"""The settings that a search varies, and whether they affect the run."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from tests.experiments.search.conftest import space
from tests.support.closure import ROOT
from yourbert.config.params import read_params
from yourbert.core.errors import UserError
from yourbert.experiments.search.search import check_reach


@pytest.mark.parametrize(
    ("run", "keys", "message"),
    [
        (
            "sst",
            ("lr", "epochs"),
            r"P18.*tasks.sst.epochs in params.yaml overrides `epochs` for 'sst'.*vary tasks.sst.epochs",
        ),
        ("ssst", ("lr",), r"P05.*no model 'ssst'.*did you mean 'sst'"),
        ("sst", ("lr", "tasks.sst.epochs", "model"), ""),
        (
            "shared",
            ("epochs",),
            r"P18.*sequential.1.epochs in params.yaml overrides `epochs` for 'shared'.*vary sequential.1",
        ),
        ("shared", ("dropout",), ""),
        ("", ("epochs",), ""),
    ],
)
def test_a_key_without_effect_on_the_run_is_refused(run: str, keys: tuple[str, ...], message: str) -> None:
    params = read_params(ROOT / "params.yaml")
    with pytest.raises(UserError, match=message) if message else nullcontext():
        check_reach(keys, run, params)


def test_the_keys_of_a_search() -> None:
    searched = space(settings=("lr=1,2", "+tasks.sst.dropout=0.1,0.2"), budget="tasks.sst.epochs=1,3")
    assert searched.keys() == ["lr", "tasks.sst.dropout", "tasks.sst.epochs", "tasks.sst.epochs"]
