"""What `dvc repro` and `dvc exp run -S` run, keep and print."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.pipeline.conftest import Project
from tests.support.closure import ROOT

pytestmark = pytest.mark.integration

MODELS = {"finetune@sst-11711", "finetune@sts-11711", "multitask@shared-11711"}
NO_NETWORK = """
import socket, sys
def refuse(*args, **kwargs):
    sys.exit("a stage after download opened a network connection")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
"""


def ran(output: str) -> set[str]:
    """The stages that really ran, by what DVC prints."""
    return set(re.findall(r"Running stage '([^']+)'", output))


def test_every_promised_file_is_there(reproduced: Project) -> None:
    root = reproduced.root
    for run in ("sst", "sts", "shared"):
        assert (root / f"metrics/runs/{run}/11711.json").is_file()
        assert (root / f"plots/curves/{run}/11711.csv").is_file()
        assert {p.name for p in (root / f"build/models/{run}/11711").iterdir()} >= {"model.safetensors", "model.json"}
    assert (root / "build/predictions/sst/11711/submission/sst-test-out.csv").read_text().startswith("id \t Predicted")
    summary = json.loads((root / "metrics/summary.json").read_text())
    assert {"sst", "sts"} <= set(summary)
    assert "# The best model for each task" in (root / "report/report.md").read_text()


def test_rows_are_accounted_for(reproduced: Project) -> None:
    for task in ("sst", "sts"):
        for split in json.loads((reproduced.root / f"metrics/data/{task}.json").read_text())["splits"].values():
            assert split["rows_read"] == split["rows_used"] + split["rows_rejected"]


def test_a_second_repro_does_nothing(reproduced: Project) -> None:
    assert not ran(reproduced.dvc("repro"))
    assert reproduced.git("status", "--porcelain") == ""


def test_models_side_by_side_are_the_same_models(project: Project, tmp_path: Path) -> None:
    """`make repro JOBS=3`: three DVC processes in one folder; every model is trained once, nothing is left to do."""
    project.set_params(lr=0.002)
    shutil.copytree(project.root, tmp_path / "alone", symlinks=True)
    shutil.copy(ROOT / "Makefile", project.root)
    (project.root / ".venv").mkdir()
    for name in ("requirements.lock", ".venv/ready"):
        (project.root / name).touch()
    done = project("make", "--old-file=data", "repro", "JOBS=3", f"BIN={Path(sys.executable).parent}")
    assert done.returncode == 0, done.stdout + done.stderr
    trained = re.findall(r"Running stage '((?:finetune|multitask)@[^']+)'", done.stdout)
    assert sorted(trained) == sorted(MODELS)
    assert not ran(project.dvc("repro"))
    alone = Project(tmp_path / "alone")
    alone.dvc("repro")
    for folder in ("metrics", "plots"):
        files = [path.relative_to(alone.root) for path in (alone.root / folder).rglob("*") if path.is_file()]
        assert files
        for file in (f for f in files if not timed(f.as_posix())):
            assert (alone.root / file).read_bytes() == (project.root / file).read_bytes(), file


def test_a_clone_gives_the_same_metrics(reproduced: Project, tmp_path: Path) -> None:
    """Nothing but what git tracks and the data: every stage runs again, and all but its cost comes out the same."""
    reproduced.git("clone", "--quiet", str(reproduced.root), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    shutil.copytree(reproduced.root / "data", clone.root / "data")
    assert ran(clone.dvc("repro")) >= MODELS
    changed = [line[3:] for line in clone.git("status", "--porcelain").splitlines()]
    assert [file for file in changed if not timed(file) and file != "dvc.lock"] == []


def timed(file: str) -> bool:
    """Whether a tracked file says how long something took."""
    return file.startswith("metrics/cost/") or file == "report/cost.md"


def test_lr_retrains_the_models_and_not_the_tokens(project: Project) -> None:
    stages = ran(project.dvc("exp", "run", "-S", "lr=1e-5"))
    assert stages >= MODELS
    assert not {s for s in stages if s.startswith(("tokenize", "pretrain", "download"))}
    diff = json.loads(project.dvc("metrics", "diff", "--json"))
    for run in ("sts", "shared"):
        assert diff[f"metrics/runs/{run}/11711.json"]["sts.dev.pearson"]["diff"]
    assert "lr: 1e-05" in (project.root / "params.yaml").read_text()


def test_a_task_s_own_lr_retrains_that_task_alone(project: Project) -> None:
    stages = ran(project.dvc("exp", "run", "-S", "tasks.sst.lr=3e-5"))
    assert stages == {"check", "finetune@sst-11711", "evaluate@sst-11711", "report"}


def test_a_new_seed_trains_that_seed_alone(project: Project) -> None:
    project.set_params(seeds=[11711, 5])
    stages = {s for s in ran(project.dvc("repro")) if s != "check"}
    assert stages and all(s.endswith("-5") or s == "report" for s in stages)


def test_pretraining_switches_on_and_back(project: Project) -> None:
    project.set_params(pretrain={**project.params()["pretrain"], "enabled": True})
    assert {"pretrain", *MODELS} <= ran(project.dvc("repro"))
    assert json.loads((project.root / "metrics/pretrain.json").read_text())["steps"] > 0
    project.git("checkout", "--quiet", "params.yaml")
    assert not {s for s in ran(project.dvc("repro")) if s.startswith(("finetune", "multitask"))}, (
        "the run cache has them"
    )


def test_last_layer_only(project: Project) -> None:
    project.dvc("exp", "run", "--temp", "--name", "head", "-S", "freeze_encoder=true", "evaluate@sst-11711")
    shown = json.loads(project.dvc("exp", "show", "--json"))
    assert "head" in json.dumps(shown)
    assert not project.params()["freeze_encoder"], "an experiment elsewhere leaves the workspace alone"


def test_the_queue_runs_what_was_queued(project: Project) -> None:
    project.dvc("exp", "run", "--queue", "--name", "slow", "-S", "lr=1e-4", "evaluate@sst-11711")
    project.dvc("exp", "run", "--queue", "--name", "fast", "-S", "lr=1e-2", "evaluate@sst-11711")
    project.dvc("exp", "run", "--run-all")
    rows = json.loads(project.dvc("exp", "show", "--json", "--param-deps"))
    assert {"slow", "fast"} <= set(re.findall(r'"(slow|fast)"', json.dumps(rows)))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("\nlr: 0.001", "\nlerning_rate: 1\nlr: 0.001", "YB-P01"),
        ("\nbatch_size: 16", "\nbatch_size: -1", "YB-P04"),
        ("label: sentiment", "label: sentimnt", "YB-D12"),
    ],
)
def test_a_mistake_costs_no_trained_model(project: Project, old: str, new: str, says: str) -> None:
    params = project.root / "params.yaml"
    text = params.read_text()
    assert old in text
    params.write_text(text.replace(old, new, 1))
    done = project("python", "-m", "dvc", "repro")
    assert done.returncode != 0
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert (project.root / "build/models/sst/11711/model.safetensors").is_file()
    params.write_text(text)
    assert not ran(project.dvc("repro")) - {"check"}


def test_a_bad_row_is_named_before_anything_runs(project: Project) -> None:
    path = project.root / "data/ids-sst-train.csv"
    path.chmod(0o644)
    lines = path.read_text().splitlines(keepends=True)
    lines[9] = lines[9].rsplit("\t", 1)[0] + "\t7\n"
    path.unlink()
    path.write_text("".join(lines))
    done = project("python", "-m", "dvc", "repro")
    assert done.returncode != 0
    assert re.search(r"YB-D16 data/ids-sst-train.csv:10:\d+: .*'7'", done.stderr), done.stderr
    assert (project.root / "build/models/sst/11711/model.safetensors").is_file()


def test_nothing_after_download_opens_a_connection(project: Project, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_NETWORK)
    env = {"PYTHONPATH": str(tmp_path)}
    for words in (
        ["tokenize", "sst"],
        ["pretrain"],
        ["finetune", "sst", "11711"],
        ["evaluate", "sst", "11711"],
        ["report"],
    ):
        shutil.rmtree(project.root / "build" / "models" / "sst", ignore_errors=True) if words[0] == "finetune" else None
        done = project("python", "-m", f"stages.{words[0]}", *words[1:], env=env)
        assert done.returncode == 0, done.stderr


def test_two_ranks_train_the_same_model_as_one(project: Project) -> None:
    """Without dropout, whose masks differ, in fp32: the same curve; files, lock and progress are of one rank only."""
    stage, folder = ("python", "-m", "stages.finetune", "shared", "11711"), project.root / "build/models/shared/11711"
    curves = []
    for ranks in (1, 2):
        project.set_params(dropout=0.0, head_dropout=0.0, precision="fp32", num_processes=ranks)
        shutil.rmtree(folder)
        done = project(*stage)
        assert done.returncode == 0, done.stderr
        assert len(re.findall("epoch 1, step", done.stderr)) == 1
        assert json.loads((folder / "model.json").read_text())["machine"].get("ranks", 1) == ranks
        lines = (project.root / "plots/curves/shared/11711.csv").read_text().splitlines()[1:]
        curves.append([float(cell) for line in lines for cell in line.split(",")[3:] if cell])
    assert curves[0] == pytest.approx(curves[1], abs=2e-5)
    assert not list((project.root / ".yourbert/resume").iterdir())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stage_whose_dvc_ends_saves_ends_and_goes_on_later(project: Project, number: int) -> None:
    """DVC killed alone, or Ctrl-C in its terminal: nobody trains any more, and no step is taken twice."""
    project.set_params(epochs=400)
    command = [sys.executable, "-m", "dvc", "repro", "--single-item", "finetune@sst-11711"]
    project.dvc("repro", "--single-item", "check")
    repro = project.start(*command)
    stage = wait_for(lambda: training(repro.pid), seconds=60)
    resume = project.root / ".yourbert/resume"
    assert repro.stderr is not None
    assert any("epoch 1," in line for line in repro.stderr), "it trains"
    if number == signal.SIGINT:
        os.killpg(repro.pid, number)
    else:
        repro.kill()
    repro.wait()
    wait_for(lambda: not psutil.pid_exists(stage), seconds=10)
    assert len([*resume.glob("*/state.safetensors")]) == 1
    again = project.start(*command)
    assert again.stderr is not None
    line = next(line for line in again.stderr if "resumes from step" in line)
    again.terminate()
    again.wait()
    assert int(re.search(r"step (\d+) of", line)[1]) > 1  # type: ignore[index]


@pytest.mark.slow
@pytest.mark.parametrize(("blow", "seconds"), [(signal.SIGKILL, 30), (signal.SIGSTOP, 120)])
def test_a_lost_rank_ends_the_stage_in_time_and_costs_nothing(
    project: Project, blow: int, seconds: float, figure: Callable[[object], None]
) -> None:
    """With the time to answer that users have: the rank is named, and the same command ends in the same bytes."""
    project.set_params(epochs=20, num_processes=2)
    stage, folder = (sys.executable, "-m", "stages.finetune", "sst", "11711"), project.root / "build/models/sst/11711"
    assert project(*stage).returncode == 0
    whole = (folder / "model.safetensors").read_bytes()
    shutil.rmtree(folder)
    run = project.start(*stage)
    assert run.stderr is not None
    assert any("epoch 2," in line for line in run.stderr), "it trains"
    ranks = {
        process.environ()["RANK"]: process
        for process in psutil.Process(run.pid).children(recursive=True)
        if "RANK" in process.environ()
    }
    began = time.monotonic()
    ranks["1"].send_signal(blow)
    said = run.stderr.read()
    run.wait()
    took = time.monotonic() - began
    figure(f"rank 1 met {signal.Signals(blow).name}; all ended after {took:.1f} s")
    assert run.returncode == 9 and re.search(r"YB-X.*rank 1\b", said.splitlines()[-1]), said
    assert took < seconds and not any(process.is_running() for process in ranks.values())
    assert project(*stage).returncode == 0 and (folder / "model.safetensors").read_bytes() == whole


def training(above: int) -> int | None:
    """The process below another one that trains."""
    below = psutil.Process(above).children(recursive=True)
    return next((process.pid for process in below if "stages.finetune" in process.cmdline()), None)


def wait_for(what: Callable[[], Any], seconds: float) -> Any:
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)
    return found


def test_the_doctor_mends_what_stops_dvc_and_what_dvc_would_use(project: Project) -> None:
    """The note of who uses what and dvc.lock emptied, a trained model cut: nothing but that model is made again."""
    broken = project.root / "build/models/sst/11711/model.safetensors"
    digest = hashlib.md5(broken.read_bytes()).hexdigest()
    metrics = (project.root / "metrics/runs/sst/11711.json").read_bytes()
    (kept,) = (project.root / ".dvc/cache/files/md5" / digest[:2]).glob(digest[2:])
    for path in {broken, kept}:
        path.chmod(0o644)
        os.truncate(path, 1000)
    (project.root / ".dvc/tmp/rwlock").write_text("")
    (project.root / "dvc.lock").write_text("")
    assert project(sys.executable, "-m", "dvc", "repro").returncode != 0
    looked = project("yourbert", "doctor")
    assert looked.returncode == 5 and looked.stderr == ""
    for code in ("YB-V01", "YB-V02", "YB-C09"):
        assert code in looked.stdout
    mended = project("yourbert", "doctor", "--fix")
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert "no problems found" in project("yourbert", "doctor").stdout
    # A model says which commit it was trained at, so what reads it runs, too.
    assert {s for s in ran(project.dvc("repro")) if s != "check"} == {
        "finetune@sst-11711",
        "evaluate@sst-11711",
        "report",
    }
    assert (project.root / "metrics/runs/sst/11711.json").read_bytes() == metrics
    assert hashlib.md5(broken.read_bytes()).hexdigest() == digest


def test_a_search_ends_weak_candidates_early_and_counts_its_cost(project: Project) -> None:
    words = ["--set", "lr=1e-7,1e-2", "--budget", "epochs=1,3", "--reduction-factor", "2", "--run", "sst"]
    command = ["yourbert", "search", *words, "--targets", "evaluate@sst-11711", "--jobs", "2"]
    done = project(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = list(csv.DictReader((project.root / "report/search.csv").open()))
    assert [(line["rung"], line["budget"]) for line in lines] == [("1", "epochs=1")] * 2 + [("2", "epochs=3")]
    assert float(lines[0]["score"]) >= float(lines[1]["score"]) and lines[2]["settings"] == lines[0]["settings"]
    assert all(float(line["kwh"]) > 0 for line in lines), lines
    assert f"best: {lines[2]['settings']} epochs=3" in done.stdout and "cost: 3 experiments" in done.stdout
    name = lines[2]["name"]
    assert name in project.dvc("exp", "list") and f"dvc exp apply {name}" in done.stdout
    again = project(*command)
    assert again.returncode == 0 and "experiments to run" not in again.stderr, "what is there is not run again"
    assert list(csv.DictReader((project.root / "report/search.csv").open())) == lines


def test_a_sequential_model_starts_from_another(project: Project) -> None:
    rest = {"sampling": "proportional", "lr": 1e-12}
    first = {"name": "sts-next", "init_from": "shared", "tasks": ["sts"], "task_specific_layers": {"sts": 1}, **rest}
    then = {"name": "sst-next", "init_from": "sts-next", "tasks": ["sts", "sst"], **rest}
    then["task_specific_layers"] = {"sst": 1}
    project.set_params(sequential=[first, then | {"lr": 1e-2}])
    # `download` compares the numbers of layers with the model, and writes the same bytes.
    stages = {s for s in ran(project.dvc("repro")) if s not in ("check", "download")}
    of = [f"{stage}@model{number}-11711" for stage in ("sequential", "evaluate-sequential") for number in (0, 1)]
    assert stages == {*of, "report"}
    scores = [
        json.loads((project.root / f"metrics/runs/{run}/11711.json").read_text())["sts"]["dev"]["pearson"]
        for run in ("shared", "sts-next", "sst-next")
    ]
    assert scores[1] == pytest.approx(scores[0], abs=1e-4), "with its layers and its head; the rate changes nothing"
    assert scores[2] == scores[1], "another task learns, and what sts has for itself comes along"
    model = json.loads((project.root / "build/models/sst-next/11711/model.json").read_text())
    assert model["task_specific_layers"] == {"sst": 1, "sts": 1}
    assert "sst-next" in (project.root / "report/report.md").read_text()
