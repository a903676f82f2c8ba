"""A complete fine-tuning run: from an encoder and tokens to a model folder, for one task or mixture and one seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from yourbert.config.limits import check_limits, layers_of
from yourbert.config.schema import Mixture, Runtime, Training
from yourbert.core.storage import folder_hash, write_csv, write_json
from yourbert.core.tasks import Task
from yourbert.finetuning.learner import LABELED_SPLITS, TaskLearner, set_trainable
from yourbert.finetuning.sampling import with_min_steps
from yourbert.inference.model_folder import place_model, save_model
from yourbert.model.multitask import Model
from yourbert.model.pretrained import load_encoder
from yourbert.runtime.distributed import here
from yourbert.runtime.machine import generator, prepare
from yourbert.tokens.packing import open_tokens_for, used_token_ids
from yourbert.training.checkpoint import Resume, resume_folder
from yourbert.training.fused import fusion
from yourbert.training.graph.graph_step import make_stepper
from yourbert.training.history import TrainingHistory
from yourbert.training.loop import begin, train
from yourbert.training.optimizer import decay_after

# The code that determines the result of a training: the folders that dvc.yaml lists for `finetune`.
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
    """Trains the tasks of `mixture` together; writes the model folder `out`, the learning curve and the cost.

    encoder: an encoder folder, or a model folder to start from, whose heads of these tasks are used too.
    pretrained: the encoder folder that initializes tasks with `task_specific_layers: all`; if None, `encoder`.

    Under torchrun all ranks train one model, and rank 0 writes. An interrupted run resumes from its last saved step.
    Raises UserError: P05 (more task-specific layers than the model has), C01 or C05 (tokens and encoder do not belong
    together), T01 (the gradient is not finite), R08 (out of memory).
    """
    machine = prepare(runtime, here())
    tasks = {task: open_tokens_for(tokens / task, encoder) for task in mixture.tasks}
    metadata = {
        "run": name,
        "seed": seed,
        "training": settings.model_dump(),
        "mixture": mixture.model_dump(include=set(Mixture.model_fields) - set(Training.model_fields)),
        "encoder": folder_hash(encoder),
        "tokens": {task: folder_hash(tokens / task) for task in mixture.tasks},
        "machine": machine.facts() | fusion.facts(machine),
    }
    pretrained = pretrained or encoder
    if "all" in mixture.task_specific_layers.values():
        metadata["pretrained"] = folder_hash(pretrained)
    # The metadata has the settings of params.yaml; from here on `epochs` is the number that is run.
    settings = with_min_steps(settings, mixture, [len(tasks[task].splits["train"]) for task in mixture.trained_tasks])
    with Resume(resume_folder(metadata, CODE), leads=machine.ranks.leads) as resume:
        model = _make_model(name, mixture, settings, seed, encoder, pretrained, [t.task for t in tasks.values()])
        learner = TaskLearner(place_model(model, machine), tasks, mixture, settings, machine, seed)
        outcome = _train(f"{name} {seed}", learner, resume)
        machine.ranks.close()
        if machine.ranks.leads:
            descriptions = {task: t.task for task, t in tasks.items()}
            save_model(out, model, descriptions, encoder, metadata | {"outcome": _summary(outcome)})
            _write_curve(curve, outcome)
            write_json(cost, outcome.cost.to_json())


def _make_model(
    name: str, mixture: Mixture, settings: Training, seed: int, encoder: Path, pretrained: Path, tasks: Sequence[Task]
) -> Model:
    """The model before its first step, with the weights that are not trained frozen."""
    loaded = load_encoder(encoder, settings.dropout, generator(seed, "pooler"))
    layers = loaded.encoder.config.num_hidden_layers
    task_specific_layers = {task: n for task, n in loaded.task_specific_layers.items() if task in mixture.tasks}
    task_specific_layers |= {task: layers if n == "all" else n for task, n in mixture.task_specific_layers.items()}
    check_limits(layers_of(name, mixture), encoder)
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
    if reinitialized := [task for task, number in mixture.task_specific_layers.items() if number == "all"]:
        fresh = load_encoder(pretrained, settings.dropout, generator(seed, "pooler")).encoder
        for task in reinitialized:
            model.initialize_task_specific_layers(task, fresh)
    model.heads.load_state_dict({n: loaded.heads.get(n, t) for n, t in model.heads.state_dict().items()})
    set_trainable(model, mixture, settings)
    return model


def _train(title: str, learner: TaskLearner, resume: Resume) -> TrainingHistory:
    """Trains the learner's model, with the word embeddings shrunk to the tokens that occur in its texts."""
    settings, texts = learner.settings, learner.tokens.values()
    # Unused rows get no gradient, but AdamW would read and write them in every step; `table.decay` makes up for it.
    used_ids = used_token_ids(t.splits[split] for t in texts for split in LABELED_SPLITS)
    with learner.model.encoder.embeddings.restricted(used_ids) as table:
        run = begin(title, learner, settings, resume, learner.machine.ranks)
        outcome = train(run, make_stepper(learner, run))
        table.decay = decay_after(outcome.best_step, outcome.steps, settings)
    return outcome


def _summary(outcome: TrainingHistory) -> dict[str, int]:
    """The summary of a training in the model folder; rare events have a key only if they happened."""
    always = {
        "steps": outcome.steps_done,
        "tokens": outcome.tokens,
        "parameters": outcome.parameters,
        "best_epoch": outcome.best_epoch,
    }
    micro_batches = outcome.micro_batches if outcome.micro_batches > 1 else 0
    events = {"micro_batches": micro_batches, "loss_spikes": len(outcome.spikes.steps)}
    return always | {key: number for key, number in events.items() if number}


def _write_curve(path: Path, outcome: TrainingHistory) -> None:
    """Writes a line per task and epoch."""
    lines = [
        (step, epoch, task, "" if loss is None else f"{loss:.5f}", f"{dev:.5f}")
        for step, epoch, task, loss, dev in outcome.curve
    ]
    write_csv(path, CURVE, lines)
