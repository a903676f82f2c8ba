"""From an encoder and tokens to a tailored model folder: one run of one task or mixture with one seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import fmean

from yourbert.config.schema import Mixture, Runtime, Training
from yourbert.core.cost import Cost
from yourbert.core.errors import fail
from yourbert.core.seeding import seed_of
from yourbert.core.storage import folder_hash, write_csv, write_json
from yourbert.core.tasks import Task
from yourbert.finetuning.learner import WITH_LABELS, TaskLearner
from yourbert.inference.model_folder import save_model, settle
from yourbert.model.multitask import Model
from yourbert.model.pretrained import load_encoder
from yourbert.runtime.distributed import here
from yourbert.runtime.machine import generator, prepare
from yourbert.tokens.packing import open_tokens_for, pieces_in
from yourbert.training.averaging import mean_of_models
from yourbert.training.checkpoint import Resume, resume_folder
from yourbert.training.fused import fusion
from yourbert.training.graph.graph_step import stepper_for
from yourbert.training.history import Outcome
from yourbert.training.loop import train
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
    if "all" in mixture.own_layers.values():
        facts["pretrained"] = folder_hash(first)
    outcomes: list[Outcome] = []

    def models(resumes: ExitStack) -> Iterator[Model]:
        """Trains them one after the other; what each saved lasts until all are done."""
        for number in range(settings.soup):
            told, title = (facts | {"soup": number}, f", {number + 1} of {settings.soup}") if number else (facts, "")
            resume = resumes.enter_context(Resume(resume_folder(told, CODE), leads=machine.ranks.leads))
            model = _begin(name, mixture, settings, seed, encoder, first, [t.task for t in tasks.values()])
            drawn = seed_of(seed, "soup", number) if number else seed
            learner = TaskLearner(settle(model, machine), tasks, mixture, settings, machine, drawn)
            outcomes.append(_learn(f"{name} {seed}{title}", learner, resume))
            yield model

    with ExitStack() as resumes:
        model = mean_of_models(models(resumes))
        machine.ranks.close()
        if machine.ranks.leads:
            described = {task: t.task for task, t in tasks.items()}
            save_model(out, model, described, encoder, facts | {"outcome": _summary(outcomes)})
            _write_curve(curve, outcomes)
            write_json(cost, sum((one.cost for one in outcomes), start=Cost()).to_json())


def _begin(
    name: str, mixture: Mixture, settings: Training, seed: int, encoder: Path, pretrained: Path, tasks: Sequence[Task]
) -> Model:
    """The model before its first step."""
    loaded = load_encoder(encoder, settings.dropout, generator(seed, "pooler"))
    most = loaded.encoder.config.num_hidden_layers
    own_layers = {task: n for task, n in loaded.own_layers.items() if task in mixture.tasks}
    own_layers |= {task: most if n == "all" else n for task, n in mixture.own_layers.items()}
    if most < max(own_layers.values(), default=0):
        fail("P05", f"own_layers of '{name}' asks for more than the {most} of the model", where="params.yaml")
    heads_rng = generator(seed, "heads")
    model = Model(
        loaded.encoder, tasks, settings.pooling, settings.head_dropout, heads_rng, mixture.poolings, own_layers
    )
    if anew := [task for task, number in mixture.own_layers.items() if number == "all"]:
        begin = load_encoder(pretrained, settings.dropout, generator(seed, "pooler")).encoder
        for task in anew:
            model.begin_own_layers(task, begin)
    model.heads.load_state_dict({n: loaded.heads.get(n, t) for n, t in model.heads.state_dict().items()})
    return model


def _learn(title: str, learner: TaskLearner, resume: Resume) -> Outcome:
    """Trains the learner's model."""
    machine, table = learner.machine, learner.model.encoder.embeddings
    if learns := table.word.requires_grad:
        read = [t.splits[split] for t in learner.tokens.values() for split in WITH_LABELS]
        table.restrict(pieces_in(read))
    outcome = train(title, learner, learner.settings, resume, stepper_for(learner, machine), machine.ranks)
    if learns:
        table.restore(decay_after(outcome.best_step, outcome.steps, learner.settings))
    return outcome


def _summary(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Of all models that the kept one is the mean of; the best epoch is the mean of theirs."""
    epoch = fmean(one.best_epoch for one in outcomes)
    usual = {
        "steps": sum(one.steps_done for one in outcomes),
        "tokens": sum(one.tokens for one in outcomes),
        "parameters": outcomes[0].parameters,
        "best_epoch": int(epoch) if epoch.is_integer() else epoch,
    }
    pieces = max(one.pieces for one in outcomes)
    rare = {"pieces": pieces if pieces > 1 else 0, "loss_spikes": sum(len(one.spikes.steps) for one in outcomes)}
    return usual | {key: number for key, number in rare.items() if number}


def _write_curve(path: Path, outcomes: Sequence[Outcome]) -> None:
    """A line per task and epoch; steps and epochs of a further model are counted on."""
    lines, steps, epochs = [], 0, 0
    for one in outcomes:
        lines += [
            (steps + step, epochs + epoch, task, "" if loss is None else f"{loss:.5f}", f"{dev:.5f}")
            for step, epoch, task, loss, dev in one.curve
        ]
        steps, epochs = steps + one.steps_done, epochs + one.epoch
    write_csv(path, CURVE, lines)
