"""A soup: the mean of models that differ in their draws alone; what does not learn stays; none is trained twice."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import yourbert.finetuning.finetune
from tests.faults.project import Project
from tests.support import tiny
from tests.support.closure import ROOT
from yourbert.core.cost import Cost
from yourbert.core.storage import read_json, write_json
from yourbert.finetuning.learner import TaskLearner
from yourbert.inference.model_folder import load_model
from yourbert.training.averaging import mean_of_models

SST = "build/models/sst/11711"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """With its tokens and an encoder, and an epoch for each model."""
    made = Project(tmp_path / "project")
    made.download()
    made.edit("\nepochs: 3\n", "\nepochs: 1\n")
    made.edit("\nsoup: 1\n", "\nsoup: 3\n")
    made.edit("\nlr: 0.0001\n", "\nlr: 0.01\n")
    for words in (("tokenize", "sst"), ("tokenize", "quora"), ("tokenize", "sts"), ("pretrain",)):
        made.succeed(*words)
    return made


def weights(project: Project, model: str) -> dict[str, Tensor]:
    return load_model(project.folder / model, tiny.MACHINE)[0].state_dict()


def curve(project: Project) -> list[dict[str, str]]:
    with (project.folder / "plots/curves/sst/11711.csv").open() as file:
        return [*csv.DictReader(file)]


def test_it_is_the_mean_of_models_of_which_the_first_is_the_one_without_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    members: list[dict[str, Tensor]] = []

    def noted(models: Iterable[nn.Module]) -> nn.Module:
        def each() -> Iterator[nn.Module]:
            for model in models:
                members.append({name: p.detach().clone() for name, p in model.state_dict().items()})
                yield model

        return mean_of_models(each())

    monkeypatch.setattr(yourbert.finetuning.finetune, "mean_of_models", noted)
    project.succeed("finetune", "sst", "11711")
    soup = weights(project, SST)
    outcome = read_json(project.folder / SST / "model.json")["outcome"]
    steps = [int(line["step"]) for line in curve(project)]
    project.edit("\nsoup: 3\n", "\nsoup: 1\n")
    project.succeed("finetune", "sst", "11711")
    *three, alone = members
    assert len(three) == 3
    for name, mean in soup.items():
        torch.testing.assert_close(mean, torch.stack([one[name] for one in three]).mean(0), rtol=0, atol=1e-6)
    assert all(torch.equal(p, alone[name]) for name, p in three[0].items())
    assert len({one["heads.sst.linear.weight"].numpy().tobytes() for one in three}) == 3
    once = read_json(project.folder / SST / "model.json")["outcome"]
    assert [outcome[key] for key in ("steps", "tokens", "parameters")] == [
        3 * once["steps"], 3 * once["tokens"], once["parameters"]
    ]  # fmt: skip
    assert steps == sorted({*steps}) and steps[-1] == outcome["steps"]


def test_what_does_not_learn_is_the_same_to_the_bit(project: Project) -> None:
    project.succeed("finetune", "quora", "11711")
    project.succeed("chain", "quora-sts", "11711")
    before, after = (weights(project, f"build/models/{run}/11711") for run in ("quora", "quora-sts"))
    assert all(torch.equal(after[name], p) for name, p in before.items())
    assert len(after) > len(before)


def test_one_that_is_cut_off_trains_no_member_twice(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    usual = TaskLearner.losses

    def losses(learner: TaskLearner, epoch: int, step: int) -> Iterator[object]:
        taken.append(step)
        if len(taken) == dies_at:
            raise KeyboardInterrupt
        return usual(learner, epoch, step)

    monkeypatch.setattr(TaskLearner, "losses", losses)
    monkeypatch.setattr("yourbert.training.loop.Meter.read", lambda meter: Cost(seconds=10.0))
    dies_at = 0
    project.succeed("finetune", "sst", "11711")
    whole, steps = (project.folder / SST / "model.safetensors").read_bytes(), len(taken) // 3
    cost = "metrics/cost/sst/11711.json"
    assert read_json(project.folder / cost)["seconds"] == 30
    drawn = curve(project)
    dies_at = len(taken) + 2 * steps + 1
    assert project.attempt("finetune", "sst", "11711").code != 0
    kept = [*(project.folder / ".yourbert" / "resume").glob("*/state.safetensors")]
    assert len(kept) == 2
    write_json(project.folder / cost, {})
    taken, dies_at = [], 0
    project.succeed("finetune", "sst", "11711")
    assert len(taken) == steps
    assert (project.folder / SST / "model.safetensors").read_bytes() == whole
    assert curve(project) == drawn
    assert read_json(project.folder / cost)["seconds"] == 30
    assert not [*(project.folder / ".yourbert" / "resume").glob("*/state.safetensors")]


def test_two_ranks_make_a_soup_together(project: Project) -> None:
    project.edit("\ndropout: 0.1\nhead_dropout: 0.1\n", "\ndropout: 0.0\nhead_dropout: 0.0\n")
    curves = []
    for ranks in (1, 2):
        project.edit("\nranks: 1\n", f"\nranks: {ranks}\n")
        command = [sys.executable, "-m", "stages.finetune", "sst", "11711"]
        place = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=project.folder, env=place, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        curves.append(curve(project))
    one, two = ([[float(line[key]) for key in ("step", "epoch", "loss")] for line in lines] for lines in curves)
    assert len(one) == 3 * 2
    for alone, together in zip(one, two, strict=True):
        assert together == pytest.approx(alone, abs=1e-3)
