"""What each model cost, beside what it bought."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.report.conftest import QUALITY, ROWS, THREE, Tree, cells, flatten, gold, params


def test_cost_and_benefit_of_each_model(full: Tree) -> None:
    page, single = full.cost(), full.report()[1]["sst"]["single_task"]["mean"]
    majority = np.bincount(gold(full.tasks["sst"], "dev")).max() / ROWS
    gained = 100 * (single - majority)
    assert cells(page, "sst")[2:6] == ["100", "150", "1.500", f"{gained:.1f}"]  # 3,600 and 7,200 joules
    assert float(cells(page, "sst")[6]) == pytest.approx(1.5 / gained, rel=1e-2)
    points = [float(cells(page, task)[5]) for task in THREE]
    together = cells(page, "single-task models, for shared")
    assert together[2:5] == ["300", "450", "4.500"] and float(together[5]) == pytest.approx(sum(points), abs=0.11)
    assert cells(page, "shared")[2] == "300"
    assert "kwh_estimated" in page and "kwh_measured" in page and "pretraining" not in page


def test_a_sequential_model_costs_what_it_starts_from_as_well(tmp_path: Path) -> None:
    chain = {"name": "last", "init_from": "pairs", "tasks": ["sts"], "sampling": "joint"}
    first = {"name": "pairs", "init_from": "sst", "tasks": ["quora", "sts"], "sampling": "joint"}
    settings = params(THREE, {}, sequential=[chain, first])
    page = Tree(tmp_path, settings, QUALITY | {"pairs": 0.6, "last": 0.6}).cost()
    assert [cells(page, run)[2] for run in ("sst", "pairs", "last")] == ["100", "300", "400"]


def test_no_energy_a_point_where_nothing_was_gained(tmp_path: Path) -> None:
    tree = Tree(tmp_path, params(["sst", "sts"], {}), {**QUALITY, "own": -1.0, ("sst", "sst"): -1.0})
    flatten(tree, "sts", 1)
    page = tree.cost()
    assert cells(page, "sts")[5:] == ["-", "-"]
    assert float(cells(page, "sst")[5]) < 0 and cells(page, "sst")[6] == "-"
