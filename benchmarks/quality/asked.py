"""What is asked: questions about tailoring, and for each the ways to train that answer it."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.quality.trials import Way


@dataclass(frozen=True)
class Question:
    asks: str
    ways: tuple[Way, ...]


# The weight counts only where something is weighed, but names a trial; so it is told, too.
PLAIN = Way("plain", {"regularizer": "none", "regularizer_weight": 1.0})


def r_drop(weight: float) -> Way:
    return Way(f"R-Drop, {weight:g} times", {"regularizer": "r_drop", "regularizer_weight": weight})


# All tasks at once from the start, every row once an epoch; and with all pairs as two inputs.
FLAT = {
    "lr": 1e-4, "batch_size": 32, "sampling": "proportional", "task_pooling": {}, "task_specific_layers": {},
    "min_steps": 0,
}  # fmt: skip
APART = {"encoding": "bi", **FLAT}
STEADY = {"regularizer": "r_drop", "regularizer_weight": 4.0}
LIGHT = {"regularizer": "r_drop", "regularizer_weight": 2.0}
# Every row of all tasks, three times.
ALL = {**APART, **STEADY, "epochs": 3, "max_examples_per_task": 0, "loss_weights": {"sts": 20.0}}
# How quora was first read in every way that is asked about.
ALIKE = {"encoding": "cross", "pooling": "mean", "batch_size": 32, "min_steps": 0}
# Few rows of each task, of quora as many as sts has.
SMALL = {**PLAIN.changes, "epochs": 2, "max_examples_per_task": 6040, "loss_weights": {"sts": 20.0}}
# Not more than what a way that takes six times as long can do, too.
BRIEF = {**PLAIN.changes, "epochs": 1, "min_steps": 0, "max_examples_per_task": 4000}

QUESTIONS = {
    "defaults": Question("What do the default parameters reach?", (Way("params.yaml", {}),)),
    "shared": Question(
        "Does a multi-task model score lower than single-task models?",
        (Way("single-task models", {}, alone=True), Way("multi-task model", {})),
    ),
    "tricks": Question(
        "Do the speed optimizations change the scores?",
        (Way("all on", BRIEF), Way("all off, fp32", BRIEF, plain=True)),
    ),
    "pooling": Question(
        "Which pooling: first token or mean?",
        (Way("first token", {"pooling": "cls"}), Way("mean", {"pooling": "mean"})),
    ),
    "encoding": Question(
        "Which encoding of a pair: one input or two?",
        # Each at the rate that suited it in scratch runs.
        (
            Way("one input", {"encoding": "cross", "lr": 1e-4}),
            Way("two inputs, compared", {"encoding": "bi", "lr": 5e-5}),
        ),
    ),
    "r_drop": Question(
        "Does R-Drop help?",
        (PLAIN, r_drop(4.0)),
    ),
    "r_drop_weight": Question(
        "Which weight of R-Drop?",
        (r_drop(1.5), r_drop(4.0), r_drop(8.0)),
    ),
    "smart": Question(
        "Does adversarial regularization (SMART) help?",
        (PLAIN, Way("SMART", {"regularizer": "smart", "regularizer_weight": 1.0})),
    ),
    "curriculum": Question(
        "Does a curriculum help?",
        (
            Way("shuffled", {"curriculum": "none"}),
            Way("by length", {"curriculum": "length"}),
            Way("by difficulty", {"curriculum": "difficulty"}),
        ),
    ),
    "sampling": Question(
        "Which sampling of tasks in a multi-task model?",
        tuple(
            Way(name, {**FLAT, **SMALL, "sampling": name}, fresh=True)
            for name in ("annealed", "proportional", "temperature", "round_robin", "joint")
        ),
    ),
    "own_text": Question(
        "Does pretraining on the task's text help?",
        (Way("as it comes", {}), Way("10 epochs of it", {}, pretrain={"epochs": 10})),
    ),
    "further_text": Question(
        "Does pretraining on more text of the domain help?",
        (
            Way("as it comes", {}),
            Way("1 epoch of it", {}, pretrain={"epochs": 1}, further_text=True),
        ),
    ),
    "paraphrase": Question(
        "Which recipe for paraphrase?",
        (
            Way("one input", {**ALIKE, **PLAIN.changes, "batch_size": 16, "epochs": 2}),
            Way("one input, R-Drop, three epochs", {**ALIKE, **STEADY, "epochs": 3}),
            Way("two inputs, R-Drop, four epochs", {**ALIKE, **STEADY, "encoding": "bi", "epochs": 4}),
            Way("one input, its first token, R-Drop, two epochs", {**ALIKE, **LIGHT, "pooling": "cls", "epochs": 2}),
        ),
    ),
    "balance": Question(
        "Should a task with a small loss get a larger weight?",
        tuple(
            Way(f"sts {weight:g} times", {**APART, **SMALL, "loss_weights": {"sts": weight}}, fresh=True)
            for weight in (1.0, 20.0)
        ),
    ),
    "inputs": Question(
        "Quora's pairs as one input or two in a multi-task model?",
        (
            Way("both as two", {**APART, **SMALL}, fresh=True),
            Way("quora's as one", {**FLAT, **SMALL}, fresh=True),
        ),
    ),
    "together": Question(
        "Loss weight with all rows, three epochs and R-Drop?",
        (Way("sts once", {**ALL, "loss_weights": {}}, fresh=True), Way("sts 20 times", ALL, fresh=True)),
    ),
    "steps": Question(
        "Joint training of shared layers, or sequential training of task-specific layers?",
        (Way("joint, all layers shared", ALL, fresh=True), Way("sequential, word embeddings shared", {})),
    ),
    "freeze_encoder": Question(
        "Fine-tune all weights or only the heads?",
        (Way("all weights", {"freeze_encoder": False}), Way("heads only", {"freeze_encoder": True, "lr": 1e-3})),
    ),
}
