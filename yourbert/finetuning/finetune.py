"""From an encoder and tokens to a tailored model folder: one run of one task or mixture with one seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from yourbert.config.schema import Mixture, Runtime, Training
from yourbert.core.errors import fail
from yourbert.core.storage import folder_hash, write_csv, write_json
from yourbert.core.tasks import Task
from yourbert.finetuning.learner import WITH_LABELS, TaskLearner, choose_what_learns
from yourbert.finetuning.sampling import planned
from yourbert.inference.model_folder import save_model, settle
from yourbert.model.multitask import Model
from yourbert.model.pretrained import load_encoder
from yourbert.runtime.distributed import here
from yourbert.runtime.machine import generator, prepare
from yourbert.tokens.packing import open_tokens_for, pieces_in
from yourbert.training.checkpoint import Resume, resume_folder
from yourbert.training.fused import fusion
from yourbert.training.graph.graph_step import make_stepper
from yourbert.training.history import Outcome
from yourbert.training.loop import begin, train
from yourbert.training.optimizer import decay_after

# What decides a training's result: the same folders that dvc.yaml lists for `finetune`, `multitask` and `chain`.
CODE = (
    "core", "config", "tokens", "model", "runtime", "inference", "evaluation/metrics.py", "training", "finetuning",
)  # fmt: skip
CURVE = ("step", "epoch", "task", "loss", "dev")


def finetune(
    name: str,
    mixture: Mixture,
    settings: Training,
    runtime: Runtime,
    seed: int,
    encoder: Path,
    tokens: Path,
    out: Path,
    curve: Path,
    cost: Path,
    pretrained: Path | None = None,
) -> None:
    """Trains the tasks of `mixture` together and writes the model folder `out`, the learning curve, and what it cost.

    encoder: an encoder folder, or a model folder to go on from, with its heads of these tasks. pretrained: the encoder
    folder that a task begins with which has all layers for itself, where that is not `encoder`.

    Started once per rank by torchrun, the ranks train one model, and the first of them writes.
    """
    machine = prepare(runtime, here())
    tasks = {task: open_tokens_for(tokens / task, encoder) for task in mixture.tasks}
    facts = {
        "run": name,
        "seed": seed,
        "training": settings.model_dump(),
        "mixture": mixture.model_dump(include=set(Mixture.model_fields) - set(Training.model_fields)),
        "encoder": folder_hash(encoder),
        "tokens": {task: folder_hash(tokens / task) for task in mixture.tasks},
        "machine": machine.facts() | fusion.facts(machine),
    }
    first = pretrained or encoder
    if "all" in mixture.task_specific_layers.values():
        facts["pretrained"] = folder_hash(first)
    # The facts keep what was asked for; from here on `epochs` is what is run.
    settings = planned(settings, mixture, [len(tasks[task].splits["train"]) for task in mixture.learns])
    with Resume(resume_folder(facts, CODE), leads=machine.ranks.leads) as resume:
        model = _begin(name, mixture, settings, seed, encoder, first, [t.task for t in tasks.values()])
        learner = TaskLearner(settle(model, machine), tasks, mixture, settings, machine, seed)
        outcome = _learn(f"{name} {seed}", learner, resume)
        machine.ranks.close()
        if machine.ranks.leads:
            described = {task: t.task for task, t in tasks.items()}
            save_model(out, model, described, encoder, facts | {"outcome": _summary(outcome)})
            _write_curve(curve, outcome)
            write_json(cost, outcome.cost.to_json())


def _begin(
    name: str, mixture: Mixture, settings: Training, seed: int, encoder: Path, pretrained: Path, tasks: Sequence[Task]
) -> Model:
    """The model before its first step, with what it is to learn."""
    loaded = load_encoder(encoder, settings.dropout, generator(seed, "pooler"))
    most = loaded.encoder.config.num_hidden_layers
    task_specific_layers = {task: n for task, n in loaded.task_specific_layers.items() if task in mixture.tasks}
    task_specific_layers |= {task: most if n == "all" else n for task, n in mixture.task_specific_layers.items()}
    if most < max(task_specific_layers.values(), default=0):
        fail("P05", f"task_specific_layers of '{name}' asks for more than the {most} of the model", where="params.yaml")
    heads_rng = generator(seed, "heads")
    model = Model(
        loaded.encoder,
        tasks,
        settings.pooling,
        settings.head_dropout,
        heads_rng,
        mixture.task_pooling,
        task_specific_layers,
    )
    if anew := [task for task, number in mixture.task_specific_layers.items() if number == "all"]:
        fresh = load_encoder(pretrained, settings.dropout, generator(seed, "pooler")).encoder
        for task in anew:
            model.begin_own_layers(task, fresh)
    model.heads.load_state_dict({n: loaded.heads.get(n, t) for n, t in model.heads.state_dict().items()})
    choose_what_learns(model, mixture, settings)
    return model


def _learn(title: str, learner: TaskLearner, resume: Resume) -> Outcome:
    """Trains the learner's model, with a table of those word pieces alone that its texts have."""
    settings, texts = learner.settings, learner.tokens.values()
    read = pieces_in(t.splits[split] for t in texts for split in WITH_LABELS)
    with learner.model.encoder.embeddings.restricted(read) as table:
        run = begin(title, learner, settings, resume, learner.machine.ranks)
        outcome = train(run, make_stepper(learner, run))
        table.decay = decay_after(outcome.best_step, outcome.steps, settings)
    return outcome


def _summary(outcome: Outcome) -> dict[str, int]:
    """What the model folder says of its training; what happens rarely, only where it happened."""
    usual = {
        "steps": outcome.steps_done,
        "tokens": outcome.tokens,
        "parameters": outcome.parameters,
        "best_epoch": outcome.best_epoch,
    }
    split = outcome.micro_batches if outcome.micro_batches > 1 else 0
    rare = {"micro_batches": split, "loss_spikes": len(outcome.spikes.steps)}
    return usual | {key: number for key, number in rare.items() if number}


def _write_curve(path: Path, outcome: Outcome) -> None:
    """A line per task and epoch."""
    lines = [
        (step, epoch, task, "" if loss is None else f"{loss:.5f}", f"{dev:.5f}")
        for step, epoch, task, loss, dev in outcome.curve
    ]
    write_csv(path, CURVE, lines)
