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
    "defaults": Question("What do the parameters as they stand reach?", (Way("params.yaml", {}),)),
    "shared": Question(
        "Does a shared model lose against a model for each task?",
        (Way("a model for each task", {}, alone=True), Way("one shared model", {})),
    ),
    "tricks": Question(
        "Do the tricks that make training fast change what is learnt?",
        (Way("all on", BRIEF), Way("all off, fp32", BRIEF, plain=True)),
    ),
    "pooling": Question(
        "Which vector should a head read: the pooled first token or the mean of all?",
        (Way("first token", {"pooling": "cls"}), Way("mean", {"pooling": "mean"})),
    ),
    "encoding": Question(
        "Should a pair be read in one input, or each text by itself?",
        # Each at the rate that suited it in scratch runs.
        (
            Way("one input", {"encoding": "cross", "lr": 1e-4}),
            Way("two inputs, compared", {"encoding": "bi", "lr": 5e-5}),
        ),
    ),
    "r_drop": Question(
        "Does it help when two draws of dropout must agree (R-Drop)?",
        (PLAIN, r_drop(4.0)),
    ),
    "r_drop_weight": Question(
        "How heavily should their disagreement weigh?",
        (r_drop(1.5), r_drop(4.0), r_drop(8.0)),
    ),
    "smart": Question(
        "Does adversarial regularisation (SMART) help?",
        (PLAIN, Way("SMART", {"regularizer": "smart", "regularizer_weight": 1.0})),
    ),
    "curriculum": Question(
        "Does a curriculum help?",
        (
            Way("shuffled", {"curriculum": "none"}),
            Way("short rows first", {"curriculum": "length"}),
            Way("easy rows first", {"curriculum": "difficulty"}),
        ),
    ),
    "sampling": Question(
        "By which rule should a shared model meet its tasks?",
        tuple(
            Way(name, {**FLAT, **SMALL, "sampling": name}, fresh=True)
            for name in ("annealed", "proportional", "temperature", "round_robin", "joint")
        ),
    ),
    "own_text": Question(
        "Does it pay to pretrain on the task's own text?",
        (Way("as it comes", {}), Way("10 epochs of it", {}, pretrain={"epochs": 10})),
    ),
    "further_text": Question(
        "Does it pay to pretrain on further text of the domain?",
        (
            Way("as it comes", {}),
            Way("one epoch of it", {}, pretrain={"epochs": 1}, further_text=True),
        ),
    ),
    "paraphrase": Question(
        "What serves paraphrase?",
        (
            Way("one input", {**ALIKE, **PLAIN.changes, "batch_size": 16, "epochs": 2}),
            Way("one input, R-Drop, three epochs", {**ALIKE, **STEADY, "epochs": 3}),
            Way("two inputs, R-Drop, four epochs", {**ALIKE, **STEADY, "encoding": "bi", "epochs": 4}),
            Way("one input, its first token, R-Drop, two epochs", {**ALIKE, **LIGHT, "pooling": "cls", "epochs": 2}),
        ),
    ),
    "balance": Question(
        "Must a task with a small loss weigh more in a shared model?",
        tuple(
            Way(f"sts {weight:g} times", {**APART, **SMALL, "loss_weights": {"sts": weight}}, fresh=True)
            for weight in (1.0, 20.0)
        ),
    ),
    "inputs": Question(
        "Should a shared model read all pairs as two inputs, or quora's as one?",
        (
            Way("both as two", {**APART, **SMALL}, fresh=True),
            Way("quora's as one", {**FLAT, **SMALL}, fresh=True),
        ),
    ),
    "together": Question(
        "The same with all rows, three epochs and R-Drop?",
        (Way("sts once", {**ALL, "loss_weights": {}}, fresh=True), Way("sts 20 times", ALL, fresh=True)),
    ),
    "steps": Question(
        "Should one model learn all tasks at once in the same layers, or one after the other in layers of their own?",
        (Way("at once, every layer shared", ALL, fresh=True), Way("one after the other, the word table shared", {})),
    ),
    "freeze_encoder": Question(
        "Whole model or last layer?",
        (Way("whole model", {"freeze_encoder": False}), Way("last layer", {"freeze_encoder": True, "lr": 1e-3})),
    ),
}
