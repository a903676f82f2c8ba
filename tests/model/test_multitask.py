"""A task with last layers of its own: it learns, and nothing else moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.faults.project import Project
from tests.model.conftest import TASKS, each_task
from tests.model.test_encoder import SMALL, draw_texts, pack, wide_awake
from tests.support import tiny
from tests.tokens.test_tokenizer import write_base
from yourbert.config.schema import Runtime, Training
from yourbert.core.errors import UserError
from yourbert.core.tasks import Task
from yourbert.experiments.skills import localize_skills
from yourbert.finetuning.learner import TaskLearner
from yourbert.inference.model_folder import load_model, save_model
from yourbert.inference.predict import predict
from yourbert.model.multitask import Model
from yourbert.model.pretrained import load_encoder
from yourbert.training.checkpoint import Resume
from yourbert.training.graph.graph_step import GraphStep
from yourbert.training.loop import EagerStepper

MOOD, SAME = tiny.task("mood"), tiny.task("same")
BOTH_POOLINGS = pytest.mark.parametrize("pooling", ["mean", "cls"])


def settings(pooling: str) -> Training:
    return tiny.training(epochs=2, dropout=0.0, head_dropout=0.0, lr=1e-2, pooling=pooling)


def learner(pooling: str, **mixture: Any) -> TaskLearner:
    return tiny.learner([tiny.tokens(MOOD), tiny.tokens(SAME)], settings(pooling), **mixture)


def with_own(pooling: str) -> TaskLearner:
    return learner(pooling, task_specific_layers={"mood": 1})


def answers(made: TaskLearner, name: str) -> Any:
    return predict(made.model.eval(), name, made.tokens[name].splits["dev"], made.machine)


@BOTH_POOLINGS
def test_only_the_task_and_its_layers_move(pooling: str, tmp_path: Path) -> None:
    made = with_own(pooling)
    before = {name: p.detach().clone() for name, p in made.model.named_parameters()}
    said = {name: answers(made, name) for name in ("mood", "same")}
    with Resume(tmp_path / "resume", 1e9) as resume:
        outcome = tiny.trained(made, made.settings, resume)
    moved = {name for name, p in made.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved and all(name.startswith("heads.mood.") for name in moved)
    assert any(name.startswith("heads.mood.layers.0.") for name in moved)
    assert any(name.startswith("heads.mood.pooler.") for name in moved) == (pooling == "cls")
    assert {line[2] for line in outcome.curve} == {"mood"}, "the other task is not even looked at"
    np.testing.assert_array_equal(answers(made, "same"), said["same"])
    assert not np.array_equal(answers(made, "mood"), said["mood"])


@BOTH_POOLINGS
def test_they_begin_as_the_layers_that_all_share(pooling: str) -> None:
    made, plain = with_own(pooling), learner(pooling)
    np.testing.assert_array_equal(answers(made, "mood"), answers(plain, "mood"))
    assert made.model.encoder_for("same") is made.model.encoder
    own = made.model.encoder_for("mood").layers
    assert own[0] is made.model.encoder.layers[0] and own[-1] is made.model.heads["mood"].layers[0]


@BOTH_POOLINGS
def test_they_become_those_of_another_encoder(pooling: str) -> None:
    made = learner(pooling, task_specific_layers={"mood": tiny.CONFIG.num_hidden_layers})
    other = tiny.learner([tiny.tokens(MOOD)], settings(pooling), seed=2)
    embeddings = other.model.encoder.embeddings
    embeddings.load_state_dict(made.model.encoder.embeddings.state_dict())
    made.model.heads["mood"].linear.load_state_dict(other.model.heads["mood"].linear.state_dict())
    assert not np.array_equal(answers(made, "mood"), answers(other, "mood"))
    made.model.initialize_task_specific_layers("mood", other.model.encoder)
    np.testing.assert_array_equal(answers(made, "mood"), answers(other, "mood"))


def test_all_of_them_begin_as_the_pretrained_ones(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    project.download()
    project.edit("    quora: cls\n  lr: 0.00005\n", "    quora: cls\n  lr: 1.0e-12\n")
    project.edit("    min_steps: 300\n", "    min_steps: 0\n")
    project.edit("\nlr: 0.0001\n", "\nlr: 0.01\n")
    for words in (
        *(("tokenize", task) for task in ("quora", "sts")),
        ("pretrain",), ("finetune", "quora", "11711"), ("finetune", "quora-sts", "11711"),
    ):  # fmt: skip
        project.succeed(*words)
    build = project.folder / "build"
    pretrained = load_encoder(build / "encoder", 0.0, torch.Generator()).encoder
    (quora, _), (both, tasks) = (
        load_model(build / "models" / run / "11711", tiny.MACHINE) for run in ("quora", "quora-sts")
    )
    assert both.task_specific_layers == {"sts": 1} and [*tasks] == ["quora", "sts"]
    torch.testing.assert_close(both.heads["sts"].layers.state_dict(), pretrained.layers.state_dict(), rtol=0, atol=1e-6)
    torch.testing.assert_close(both.encoder.state_dict(), quora.encoder.state_dict(), rtol=0, atol=0)
    assert (quora.encoder.layers[0].qkv.weight - pretrained.layers[0].qkv.weight).abs().max() > 1e-3


@BOTH_POOLINGS
def test_a_captured_step_gives_the_same_losses(pooling: str) -> None:
    one, other = (with_own(pooling) for _ in range(2))
    runs = [tiny.run_of(made, made.settings) for made in (one, other)]
    eager, whole = EagerStepper(runs[0]), GraphStep(other, runs[1], graphs=False)
    for stepper, made in ((eager, one), (whole, other)):
        made.model.train()
        stepper.start_epoch(0, 0, {})
    for _ in range(one.steps(0)):
        assert eager.step() == whole.step()
    np.testing.assert_allclose(eager.sums()["mood"][0], whole.sums()["mood"][0], rtol=2e-5)


@BOTH_POOLINGS
def test_a_model_folder_keeps_them(pooling: str, tmp_path: Path) -> None:
    made = with_own(pooling)
    with torch.no_grad():
        for p in made.model.heads["mood"].parameters():
            p.add_(0.1)
    tasks = {name: made.tokens[name].task for name in ("mood", "same")}
    save_model(tmp_path / "model", made.model, tasks, write_base(tmp_path / "base"), {"run": "both", "seed": 1})
    loaded, _ = load_model(tmp_path / "model", made.machine)
    for name in tasks:
        split = made.tokens[name].splits["dev"]
        np.testing.assert_array_equal(predict(loaded, name, split, made.machine), answers(made, name))
    runtime = Runtime(device="cpu", precision="fp32", num_threads=1, deterministic=True)
    with pytest.raises(UserError, match=r"P05.*task-specific layers"):
        localize_skills([tmp_path / "model"], tmp_path / "base", tmp_path, [0.1], 1, runtime, tmp_path / "out")


def build_model(p: float = 0.1) -> Model:
    return Model(wide_awake(SMALL, dropout=p), TASKS, "cls", p, torch.Generator().manual_seed(2))


@each_task
def test_the_model_is_encoder_then_pooling_then_head(task: Task) -> None:
    model, batch = build_model().eval(), pack(draw_texts([3, 9, 40, 7], SMALL.vocab_size))
    scores = model(task.name, batch, None)
    encoder = model.encoder
    pooled = encoder.pool_cls(encoder(batch, None), batch)
    torch.testing.assert_close(scores, model.heads[task.name](pooled, None), atol=1e-6, rtol=0)
    torch.testing.assert_close(scores, model.scores_of_features(task.name, model.features(task.name, batch), None))


def test_a_task_may_have_a_pooling_of_its_own() -> None:
    batch = pack(draw_texts([3, 9, 40, 7], SMALL.vocab_size))
    first, other = TASKS[0].name, TASKS[1].name
    encoder, rng = wide_awake(SMALL, dropout=0.0).eval(), torch.Generator().manual_seed(2)
    model = Model(encoder, TASKS, "cls", 0.0, rng, {first: "mean"}).eval()
    hidden_TE = encoder(batch, None)
    for name, pooled_SE in ((first, encoder.pool_mean(hidden_TE, batch)), (other, encoder.pool_cls(hidden_TE, batch))):
        torch.testing.assert_close(model.features(name, batch), pooled_SE)
        torch.testing.assert_close(model(name, batch, None), model.heads[name](pooled_SE, None))


def test_features_know_no_dropout_and_leave_the_mode_alone() -> None:
    model, batch = build_model().train(), pack(draw_texts([3, 9], SMALL.vocab_size))
    name = TASKS[0].name
    features = model.features(name, batch)
    assert torch.equal(features, model.features(name, batch)) and not features.requires_grad
    assert model.training and model.encoder.training


def test_heads_are_stored_under_their_tasks_names() -> None:
    names = build_model().heads.state_dict().keys()
    assert {name.split(".")[0] for name in names} == {task.name for task in TASKS}
    assert "type.linear.weight" in names
