"""What joining tasks brings, and which answers it changes."""

from __future__ import annotations

import csv

from tests.report.conftest import THREE, Tree, cells, gold
from yourbert.evaluation.predictions import read_predictions


def test_multi_task_transfer_and_the_predictions_it_changes(full: Tree) -> None:
    page = full.cost().split("## Multi-task transfer")[1]
    sst, quora, sts = (cells(page, task) for task in THREE)
    assert sst[1:3] == ["shared", "quora, sts"] and sst[3].startswith("-0.")
    assert sst[4].startswith("significantly worse, p")
    assert quora[3].startswith("+0.") and float(quora[5]) > float(quora[6]) and float(sst[5]) < float(sst[6])
    assert sts[5:7] == ["-", "-"] and sst[7] == "3.0x" and sst[8] == "1.0x" and "| cfimdb" not in page

    lines = list(csv.DictReader((full.root / "report" / "changes.csv").open()))
    answers = {one["id"]: one for one in lines if one["task"] == "sst"}
    before, after = (
        [read_predictions(full.root / "predictions" / run / str(s) / "sst-dev.csv", full.tasks["sst"]) for s in (1, 2)]
        for run in ("sst", "shared")
    )
    labels_R = gold(full.tasks["sst"], "dev")
    said = [[min(a, b) for a, b in zip(*(one.predicted_R for one in run), strict=True)] for run in (before, after)]
    for row, (was, now) in enumerate(zip(*said, strict=True)):  # of two seeds that disagree the lower class counts
        one = answers.get(f"r{row}")
        changed = (was == labels_R[row]) != (now == labels_R[row])
        assert (one is not None) == changed
        if one:
            assert (one["label"], one["single_task"], one["multi_task"]) == (str(labels_R[row]), str(was), str(now))
            assert one["change"] == ("fixed" if now == labels_R[row] else "broken")
    assert sum(one["task"] == "sts" for one in lines) == 20 and {one["model"] for one in lines} == {"shared"}
