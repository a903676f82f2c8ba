"""From an encoder and tokens to a tailored model folder: one run of one task or mixture with one seed."""

from __future__ import annotations

from pathlib import Path

from yourbert.checkpoint import Resume, resume_folder
from yourbert.distributed import here
from yourbert.errors import fail
from yourbert.finetune import WITH_LABELS, TaskLearner
from yourbert.graph_step import stepper_for
from yourbert.model import Model
from yourbert.model_folder import save_model, settle
from yourbert.optim import decay_after
from yourbert.outcome import Outcome
from yourbert.packing import open_tokens_for, pieces_in
from yourbert.pretrained import load_encoder
from yourbert.runtime import generator, prepare
from yourbert.settings import Mixture, Runtime, Training
from yourbert.storage import folder_hash, write_csv, write_json
from yourbert.train import train

CURVE = ("step", "epoch", "task", "loss", "dev")


def tailor(
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
        "mixture": mixture.model_dump(include=set(Mixture.model_fields)),
        "encoder": folder_hash(encoder),
        "tokens": {task: folder_hash(tokens / task) for task in mixture.tasks},
        "machine": machine.facts(),
    }
    anew = [task for task, number in mixture.own_layers.items() if number == "all"]
    first = pretrained or encoder
    if anew:
        facts["pretrained"] = folder_hash(first)
    with Resume(resume_folder(facts), leads=machine.ranks.leads) as resume:
        loaded = load_encoder(encoder, settings.dropout, generator(seed, "pooler"))
        most = loaded.encoder.config.num_hidden_layers
        own_layers = {task: n for task, n in loaded.own_layers.items() if task in tasks}
        own_layers |= {task: most if n == "all" else n for task, n in mixture.own_layers.items()}
        if most < max(own_layers.values(), default=0):
            fail("P05", f"own_layers of '{name}' asks for more than the {most} of the model", where="params.yaml")
        heads_rng = generator(seed, "heads")
        described = {task: t.task for task, t in tasks.items()}
        model = Model(
            loaded.encoder, described.values(), settings.pooling, settings.head_dropout, heads_rng, mixture.poolings,
            own_layers,
        )  # fmt: skip
        if anew:
            begin = load_encoder(first, settings.dropout, generator(seed, "pooler")).encoder
            for task in anew:
                model.begin_own_layers(task, begin)
        model.heads.load_state_dict({n: loaded.heads.get(n, t) for n, t in model.heads.state_dict().items()})
        settle(model, machine)
        learner = TaskLearner(model, tasks, mixture, settings, machine, seed)
        table = model.encoder.embeddings
        if learns := table.word.requires_grad:
            read = [t.splits[split] for t in tasks.values() for split in WITH_LABELS]
            table.restrict(pieces_in(read))
        stepper = stepper_for(learner, machine)
        outcome = train(f"{name} {seed}", learner, learner.settings, resume, stepper, machine.ranks)
        if learns:
            table.restore(decay_after(outcome.best_step, outcome.steps, learner.settings))
    machine.ranks.close()
    if not machine.ranks.leads:
        return
    save_model(out, model, described, encoder, facts | {"outcome": _summary(outcome)})
    _write_curve(curve, outcome)
    write_json(cost, outcome.cost.to_json())


def _summary(outcome: Outcome) -> dict[str, int]:
    usual = {
        "steps": outcome.steps_done,
        "tokens": outcome.tokens,
        "parameters": outcome.parameters,
        "best_epoch": outcome.best_epoch,
    }
    rare = {"pieces": outcome.pieces if outcome.pieces > 1 else 0, "loss_spikes": len(outcome.spikes.steps)}
    return usual | {key: number for key, number in rare.items() if number}


def _write_curve(path: Path, outcome: Outcome) -> None:
    lines = [
        (step, epoch, task, "" if loss is None else f"{loss:.5f}", f"{dev:.5f}")
        for step, epoch, task, loss, dev in outcome.curve
    ]
    write_csv(path, CURVE, lines)
