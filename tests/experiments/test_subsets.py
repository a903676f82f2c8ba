"""`yourbert add-mixtures`: each subset once; settings and comments are kept; an error changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.shipped import SHIPPED, WITH_MIXTURE
from yourbert.config.params import read_params
from yourbert.core.errors import UserError
from yourbert.experiments.subsets import add_mixtures


@pytest.fixture
def path(tmp_path: Path) -> Path:
    copy = tmp_path / "params.yaml"
    copy.write_text(WITH_MIXTURE)
    return copy


def test_every_subset_gets_a_mixture_with_the_settings_of_the_first(path: Path) -> None:
    before = read_params(path)
    new, there = add_mixtures(["sst", "quora", "sts"], None, path)
    assert new == ["sst-quora", "sst-sts", "sst-quora-sts"] and there == ["pairs"]
    after = read_params(path)
    assert set(after.mixtures) == {"pairs", *new}
    others = {"tasks", "loss_weights", "task_pooling"}
    for name in new:
        assert after.mixtures[name].tasks == name.split("-")
        assert after.mixtures[name].model_dump(exclude=others) == after.mixtures["pairs"].model_dump(exclude=others)
        assert after.mixtures[name].loss_weights == ({"sts": 20.0} if "sts" in name.split("-") else {})
        assert after.mixtures[name].task_pooling == ({"quora": "cls"} if "quora" in name.split("-") else {})
        assert after.training(name) == before.training("pairs")
    comments = [line for line in WITH_MIXTURE.splitlines() if line.lstrip().startswith("#")]
    assert [line for line in path.read_text().splitlines() if line.lstrip().startswith("#")] == comments
    assert add_mixtures(["sst", "quora", "sts"], None, path)[0] == [], "a second time adds nothing"


def test_without_names_all_tasks_are_combined(path: Path) -> None:
    new, there = add_mixtures([], None, path)
    assert len(new) + len(there) == 11  # of four tasks: 6 pairs, 4 triples, all


def test_without_a_mixture_there_is_a_default_template(path: Path) -> None:
    path.write_text(SHIPPED)
    assert add_mixtures(["sst", "sts"], None, path) == (["sst-sts"], [])
    assert read_params(path).mixtures["sst-sts"].sampling == "annealed"


def test_loss_weights_follow_their_tasks(path: Path) -> None:
    text = path.read_text().replace("      sts: 20.0\n", "      quora: 2.0\n      sts: 0.5\n", 1)
    path.write_text(text)
    add_mixtures(["sst", "quora"], "pairs", path)
    assert read_params(path).mixtures["sst-quora"].loss_weights == {"quora": 2.0}


@pytest.mark.parametrize(
    ("tasks", "like", "message"),
    [
        (["sst", "quoora"], None, "no task 'quoora'.*quora"),
        ([], "pair", "no mixture 'pair'.*pairs"),
    ],
)
def test_an_unknown_name_changes_nothing(path: Path, tasks: list[str], like: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        add_mixtures(tasks, like, path)
    assert path.read_text() == WITH_MIXTURE


def test_a_name_of_a_sequential_model_or_task_is_not_taken_twice(path: Path) -> None:
    """The shipped sequential model quora-sts has the name of a subset; a task may be called like one, too."""
    text = path.read_text().replace("\n  sts:\n", "\n  sst-quora:\n", 1).replace("- sts\n", "- sst-quora\n")
    text = text.replace("    sts: 20.0\n", "    sst-quora: 20.0\n").replace("    sts: all\n", "    sst-quora: all\n")
    text = text.replace("name: quora-sts\n", "name: cfimdb-quora\n")
    text = text.replace("init_from: quora-sts", "init_from: cfimdb-quora")
    path.write_text(text)
    new, _ = add_mixtures(["sst", "cfimdb", "quora"], None, path)
    assert {"sst-quora-mixture", "cfimdb-quora-mixture"} <= {*new} and new == list(dict.fromkeys(new))
    assert read_params(path).mixtures["sst-quora-mixture"].tasks == ["sst", "quora"]
