"""The report on a small made-up tree: the answer first, honest verdicts, the same bytes each time, no mixed files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.report.conftest import QUALITY, Tree, answers, cells, params, section
from yourbert.core.cost import Cost
from yourbert.core.storage import write_json
from yourbert.core.tasks import Task
from yourbert.evaluation.metrics import Array


def test_test_scores_only_where_somebody_has_labels(full: Tree, tmp_path: Path) -> None:
    test = section(full.report()[0], "Test scores")
    assert cells(test, "sst") and cells(test, "sts") and "| quora" not in test and "overall" not in test
    text = Tree(tmp_path, params(["sst"], {}), QUALITY).report()[0]
    assert "## Test scores" not in text


def test_domain_pretraining_has_its_line(tmp_path: Path) -> None:
    tree = Tree(tmp_path, params(["sst"], {}), QUALITY)
    write_json(tmp_path / "metrics" / "pretrain.json", {"enabled": 1, "steps": 1200, "tokens": 9})
    cost = Cost(seconds=60.0, cpu_seconds=120.0, joules=7200.0)
    write_json(tmp_path / "metrics" / "cost" / "pretrain.json", cost.to_json())
    assert cells(tree.cost(), "domain pretraining, for all of these")[2:5] == ["60", "120", "2.000"]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, ""),
        ({"enabled": 0, "steps": 0, "tokens": 0}, "No domain pretraining"),
        ({"enabled": 1, "steps": 1200, "tokens": 9}, "Domain pretraining before all of these: 1,200 steps, 9 tokens"),
    ],
)
def test_pretraining_is_told(tmp_path: Path, found: dict[str, int] | None, said: str) -> None:
    tree = Tree(tmp_path, params(["sst"], {}), QUALITY)
    if found:
        write_json(tmp_path / "metrics" / "pretrain.json", found)
    text = tree.report()[0]
    assert said in text and ("domain pretraining" in text.lower()) == bool(found)


def test_a_model_that_predicts_one_label_is_pointed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = answers

    def constant(task: Task, labels_R: Array, quality: float, seed: list[int]) -> Array:
        outputs = drawn(task, labels_R, quality, seed)
        return np.eye(outputs.shape[1])[np.full(len(outputs), 3)] if seed[0] == 1 else outputs

    assert "for every dev row" not in Tree(tmp_path, params(["sst"], {}), QUALITY).report()[0]
    monkeypatch.setattr("tests.report.conftest.answers", constant)
    text = Tree(tmp_path, params(["sst"], {}), QUALITY).report()[0]
    assert "The model sst predicts 3 for every dev row of sst with 1 of 2 seeds" in text


def test_the_same_inputs_give_the_same_bytes(full: Tree) -> None:
    first = full.report(), full.cost(), (full.root / "report" / "changes.csv").read_bytes()
    assert first == (full.report(), full.cost(), (full.root / "report" / "changes.csv").read_bytes())


def test_too_few_swaps_for_a_verdict_are_pointed_out(tmp_path: Path) -> None:
    settings = params(["sst"], {"shared": ["sst"]})
    few = settings.model_copy(update={"report": settings.report.model_copy(update={"alpha": 0.001})})
    assert "Too few permutations" in Tree(tmp_path, few, QUALITY).report()[0]
