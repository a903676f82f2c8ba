"""Small things to train on: rows in memory, a two-layer encoder, and the settings of a short run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from yourbert.config.schema import Mixture, Training
from yourbert.core.seeding import rng_for
from yourbert.core.tasks import Task
from yourbert.finetuning.learner import TaskLearner, set_trainable
from yourbert.inference.model_folder import place_model
from yourbert.model.encoder import EncoderConfig
from yourbert.model.heads import MlmHead
from yourbert.model.multitask import Model
from yourbert.model.pretrained import random_encoder
from yourbert.pretraining.learner import MlmLearner, MlmModel
from yourbert.pretraining.masking import Masking
from yourbert.pretraining.pretrain import sequences
from yourbert.runtime.distributed import ALONE, Ranks
from yourbert.runtime.machine import Machine
from yourbert.tokens.packing import PackedSplit, TaskTokens, used_token_ids
from yourbert.training.checkpoint import Resume
from yourbert.training.graph.graph_step import GraphStep
from yourbert.training.history import TrainingHistory
from yourbert.training.loop import EagerStepper, Learner, Run, Stepper, begin, train

L = TypeVar("L", bound=Learner)
VOCABULARY = 60
MACHINE = Machine(torch.device("cpu"), torch.float32, torch.get_num_threads())
# [PAD] [UNK] [CLS] [SEP] [MASK] come first.
MASKING = Masking(0.15, 4, np.arange(5), VOCABULARY)
CONFIG = EncoderConfig(
    vocab_size=VOCABULARY,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    max_position_embeddings=64,
    type_vocab_size=2,
)
TRAINING: dict[str, Any] = {
    "freeze_encoder": False,
    "pooling": "cls",
    "lr": 1e-3,
    "batch_size": 8,
    "epochs": 3,
    "dropout": 0.1,
    "head_dropout": 0.1,
    "schedule": "linear",
    "warmup_ratio": 0.1,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "class_weights": "none",
    "early_stopping_patience": 0,
    "curriculum": "none",
    "regularizer": "none",
    "regularizer_weight": 1.0,
}


def training(**changes: Any) -> Training:
    return Training(**{**TRAINING, **changes})


def task(name: str = "mood", kind: str = "classification", **changes: Any) -> Task:
    facts: dict[str, Any] = {
        "name": name,
        "kind": kind,
        "labels": ("bad", "fair", "good") if kind == "classification" else (),
        "low": 0.0,
        "high": 5.0 if kind == "similarity" else 1.0,
        "pair": kind == "similarity",
        "encoding": "cross",
        "metric": "accuracy" if kind == "classification" else "pearson",
        "max_length": 32,
        "truncation_side": "right",
    }
    return Task(**{**facts, **changes})


def split(described: Task, rows: int, seed: int) -> PackedSplit:
    """Rows whose label follows from which word pieces they hold, so that a model can learn it."""
    rng = rng_for(seed, "tiny", described.name)
    sequences, labels = [], []
    for _ in range(rows):
        label = int(rng.integers(3))
        for _ in range(described.sequences_per_row):
            body = rng.integers(20, VOCABULARY, rng.integers(4, 20))
            body[rng.random(len(body)) < 0.4] = 10 + label
            sequences.append([2, *body.tolist(), 3])
        labels.append(label)
    lengths = [len(s) for s in sequences]
    similarity = described.kind == "similarity"
    return PackedSplit(
        tokens=np.concatenate(sequences),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        second=np.asarray(lengths) // (2 if described.pair else 1),
        labels=np.asarray(labels, np.float32) * 2.5 if similarity else np.asarray(labels, np.int64),
        sequences_per_row=described.sequences_per_row,
    )


def tokens(described: Task, rows: int = 96) -> TaskTokens:
    return TaskTokens(described, {"train": split(described, rows, 1), "dev": split(described, 48, 2)}, "sha", True)


def learner(
    tasks: Sequence[TaskTokens], settings: Training, seed: int = 1, machine: Machine = MACHINE, **mixture: Any
) -> TaskLearner:
    encoder = random_encoder(CONFIG, torch.Generator().manual_seed(seed), settings.dropout)
    names = [t.task.name for t in tasks]
    heads_rng = torch.Generator().manual_seed(seed)
    mixed = Mixture(**{"tasks": names, "sampling": "proportional", **mixture})
    described = [t.task for t in tasks]
    model = Model(
        encoder, described, settings.pooling, settings.head_dropout, heads_rng, mixed.task_pooling,
        mixed.task_specific_layers,
    )  # fmt: skip
    set_trainable(model, mixed, settings)
    place_model(model, machine)
    return TaskLearner(model, dict(zip(names, tasks, strict=True)), mixed, settings, machine, seed)


def mlm_learner(
    settings: Training, rows: int = 91, dev: int = 60, machine: Machine = MACHINE, masking: Masking = MASKING
) -> MlmLearner:
    work = Path(tempfile.gettempdir())
    splits = [sequences([split(task(), size, seed)], iter(()), 32, work) for size, seed in ((rows, 1), (dev, 2))]
    encoder = random_encoder(CONFIG, torch.Generator().manual_seed(1), settings.dropout)
    encoder.compute_dtype, encoder.kernel = machine.dtype, machine.kernel
    encoder.freeze_pooler()
    model = MlmModel(encoder, MlmHead(CONFIG, torch.Generator().manual_seed(2))).to(machine.device)
    return MlmLearner(model, *splits, masking, settings, machine, 1)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().cpu().clone() for name, p in model.named_parameters()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def restrict(learner: TaskLearner) -> None:
    """From here on its table holds those word pieces alone that its texts have, as in a training."""
    splits = (split for tokens in learner.tokens.values() for split in tokens.splits.values())
    learner.model.encoder.embeddings.restricted(used_token_ids(splits)).__enter__()


def trained(
    learner: Learner,
    settings: Training,
    resume: Resume,
    stepper_of: Callable[[Run], Stepper] = EagerStepper,
    ranks: Ranks = ALONE,
) -> TrainingHistory:
    run = begin("tiny", learner, settings, resume, ranks)
    return train(run, stepper_of(run))


def finished(
    folder: Path,
    made: Callable[[], L],
    settings: Training,
    stepper_of: Callable[[L, Run], Stepper],
    dies_at: int = -1,
) -> tuple[TrainingHistory, L]:
    """A run that saves after each step, cut off before step `dies_at` and started again."""
    for attempt in range(2):
        learner = made()

        def dying(run: Run, learner: L = learner, attempt: int = attempt) -> Stepper:
            stepper = stepper_of(learner, run)
            take, numbers = stepper.step, count()

            def step() -> tuple[int, int]:
                if attempt == 0 and next(numbers) == dies_at:
                    raise InterruptedError
                return take()

            stepper.step = step  # type: ignore[method-assign]
            return stepper

        try:
            with Resume(folder, 0) as resume:
                return trained(learner, settings, resume, dying), learner
        except InterruptedError:
            assert (folder / "state.safetensors").exists()
    raise AssertionError("cut off twice")


def run_of(learner: Learner, settings: Training) -> Run:
    """What a stepper works on, where nothing is saved."""
    return begin("tiny", learner, settings, Resume(Path("nowhere")))


def losses_of(stepper: Stepper, run: Run) -> Iterator[float]:
    """After each step of a whole training, in turn: the losses of its epoch so far, summed over rows and tasks."""
    run.learner.model.train()
    done = 0
    for epoch, end in enumerate(run.ends):
        stepper.start_epoch(epoch, done, {})
        while done < end:
            stepper.step()
            done += 1
            yield sum(total for total, _ in stepper.sums().values())


def check_whole_steps(learners: Sequence[TaskLearner]) -> None:
    """Two learners alike, one of which takes its steps as a whole: the same losses, and weights but for rounding."""
    alone, other = learners
    runs = [run_of(learner, learner.settings) for learner in learners]
    eager, whole = EagerStepper(runs[0]), GraphStep(other, runs[1], graphs=False)
    step = 0
    for epoch in range(alone.settings.epochs):
        for stepper, learner in ((eager, alone), (whole, other)):
            learner.model.train()
            stepper.start_epoch(epoch, step, {})
        for _ in range(alone.steps(epoch)):
            assert eager.step() == whole.step(), "rows and tokens"
            step += 1
            expected, got = eager.sums(), whole.sums()
            assert expected.keys() == got.keys()
            for task, (total, rows) in expected.items():
                assert got[task][1] == rows
                assert got[task][0] == pytest.approx(total, rel=2e-5)
    for name, p in alone.model.named_parameters():
        torch.testing.assert_close(
            other.model.get_parameter(name), p, atol=1e-4, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}"
        )
