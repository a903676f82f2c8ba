"""`yourbert compare`: two revisions by the paired test, from DVC's cache; nothing is trained or checked out."""

from __future__ import annotations

import csv
import shutil

import pytest

from tests.pipeline.conftest import Project

pytestmark = pytest.mark.integration


def test_an_experiment_beside_the_commit_it_started_from(project: Project) -> None:
    project.dvc("exp", "run", "--temp", "--name", "slow", "-S", "lr=1e-7", "evaluate@sst-11711")
    shutil.rmtree(project.root / "build" / "predictions")
    compared = project("yourbert", "compare", "HEAD", "slow", "--rows", "changed.csv")
    assert compared.returncode == 0, compared.stderr
    heading, _, *lines = compared.stdout.splitlines()
    assert heading.split()[:5] == ["model", "task", "metric", "before", "after"]
    places = {tuple(line.split()[:2]) for line in lines}
    assert places == {("sst", "sst"), ("sts", "sts"), ("shared", "sst"), ("shared", "sts")}
    gaps = [abs(float(line.split()[5])) for line in lines]
    assert gaps == sorted(gaps, reverse=True), "largest first"
    rows = list(csv.DictReader((project.root / "changed.csv").open()))
    for line in lines:
        run, task, metric, before, after, difference, *_ = line.split()
        assert abs(float(after) - float(before) - float(difference)) < 0.0021
        if task == "sst":
            of_run = [row for row in rows if row["model"] == run]
            counts = [str(sum(row["change"] == change for row in of_run)) for change in ("fixed", "broken")]
            assert line.split()[-2:] == counts and metric == "accuracy"
    assert not (project.root / "build" / "predictions").exists()


def test_the_same_revision_is_no_real_change(project: Project) -> None:
    compared = project("yourbert", "compare", "--md", "--fail-on-regression")
    assert compared.returncode == 0, compared.stderr
    assert compared.stdout.count("same predictions") == 4 and compared.stdout.startswith("| model")


def test_a_significant_regression_ends_with_its_own_exit_code(project: Project) -> None:
    """A model whose right answers are all turned wrong; its metrics are not read, so nothing else says so."""
    for path in (project.root / "build/predictions/sst/11711").glob("sst-dev.csv"):
        rows = list(csv.reader(path.open()))
        swap = {label: str((int(label) + 1) % 5) for label in "01234"}
        wrong = [[row_id, label, swap[label], *shares] for row_id, label, _, *shares in rows[1:]]
        path.unlink()
        path.write_text("\n".join(",".join(row) for row in [rows[0], *wrong]) + "\n")
    compared = project("yourbert", "compare", "--fail-on-regression")
    assert compared.returncode == 10 and compared.stderr == "" and compared.stdout.count("significantly worse") == 1
    back = project("yourbert", "compare", "workspace", "HEAD", "--fail-on-regression")
    assert back.returncode == 0 and back.stdout.count("significantly better") == 1


def test_what_cannot_be_compared_is_one_line(project: Project) -> None:
    unknown = project("yourbert", "compare", "HEAD", "slwo")
    assert unknown.returncode == 2 and "unknown commit, branch, tag or experiment 'slwo'" in unknown.stderr
    shutil.rmtree(project.root / ".dvc" / "cache")
    gone = project("yourbert", "compare")
    assert gone.returncode == 5 and gone.stderr.splitlines()[-1].startswith("YB-V13"), gone.stderr
    shutil.rmtree(project.root / "build" / "predictions")
    empty = project("yourbert", "compare", "workspace", "workspace")
    assert empty.returncode == 5 and "no model with the same name" in empty.stderr
