"""From an encoder and tokens to a tailored model folder: one run of one task or mixture with one seed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yourbert
from yourbert.checkpoint import Resume, fingerprint
from yourbert.encoder import Encoder
from yourbert.errors import fail
from yourbert.finetune import TaskLearner
from yourbert.heads import MlmHead
from yourbert.model import Model
from yourbert.model_folder import TOKENIZER_FILES, save_model, settle
from yourbert.packing import PackedSplit, TaskTokens, open_tokens
from yourbert.params import Mixture, Pretrain, Runtime, Training, located, project_root
from yourbert.pretrain import MlmLearner, MlmModel, read_texts, sequences
from yourbert.pretrained import load_encoder, save_encoder
from yourbert.runtime import Machine, generator, prepare
from yourbert.storage import folder_hash, link_or_copy, sha256_of, write_csv, write_json, write_manifest
from yourbert.tokenizer import Tokenizer
from yourbert.train import Outcome, train

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
) -> None:
    """Trains the tasks of `mixture` together and writes the model folder `out` and the learning curve."""
    machine = prepare(runtime)
    tasks = {task: _open(tokens / task, encoder) for task in mixture.tasks}
    facts = {
        "run": name,
        "seed": seed,
        "training": settings.model_dump(),
        "mixture": mixture.model_dump(include={"tasks", "sampling", "temperature", "weights"}),
        "encoder": folder_hash(encoder),
        "tokens": {task: folder_hash(tokens / task) for task in mixture.tasks},
        "machine": machine.facts(),
    }
    with Resume(_resume_folder(facts)) as resume:
        loaded = load_encoder(encoder, settings.dropout, generator(machine, seed, "pooler"))
        heads_rng = generator(machine, seed, "heads")
        described = {task: t.task for task, t in tasks.items()}
        model = Model(loaded.encoder, described.values(), settings.pooling, settings.head_dropout, heads_rng)
        settle(model, machine)
        learner = TaskLearner(model, tasks, mixture, settings, machine, seed)
        outcome = train(f"{name} {seed}", learner, settings, resume)
    save_model(out, model, described, encoder, facts | {"outcome": _summary(outcome)})
    _write_curve(curve, outcome)


def pretrain(
    settings: Pretrain,
    schedule: Training,
    runtime: Runtime,
    seed: int,
    base: Path,
    tokens: Path,
    out: Path,
    metrics: Path,
) -> None:
    """Trains `base` on the tasks' text and writes the encoder folder `out`; passes `base` through when disabled."""
    if not settings.enabled:
        for path in sorted(p for p in base.iterdir() if p.is_file()):
            link_or_copy(path, out / path.name)
        write_json(metrics, {"enabled": 0, "rows": 0, "steps": 0, "tokens": 0})
        return
    machine = prepare(runtime)
    tokenizer = Tokenizer.load(base)
    texts = read_texts(located(settings.text), tokenizer, settings.max_length) if settings.text else iter(())
    opened = [_open(folder, base) for folder in sorted(tokens.iterdir()) if folder.is_dir()]
    train_rows = sequences([t.splits["train"] for t in opened], texts, settings.max_length)
    dev_rows = sequences([t.splits["dev"] for t in opened], iter(()), settings.max_length)
    facts = {
        "settings": settings.model_dump(),
        "schedule": schedule.model_dump(),
        "text": len(train_rows),
        "base": folder_hash(base),
        "tokens": folder_hash(tokens),
        "machine": machine.facts(),
        "seed": seed,
    }
    with Resume(_resume_folder(facts)) as resume:
        loaded = load_encoder(base, settings.dropout, generator(machine, seed, "pooler"))
        head = loaded.mlm_head or MlmHead(loaded.encoder.config, generator(machine, seed, "mlm head"))
        outcome = _train_mlm(
            loaded.encoder, head, train_rows, dev_rows, tokenizer, settings, schedule, machine, seed, resume
        )
    save_encoder(out, loaded.encoder, head)
    for name in TOKENIZER_FILES:
        link_or_copy(base / name, out / name)
    write_manifest(out)
    scores = {epoch: score for _, epoch, _, _, score in outcome.curve}
    write_json(
        metrics,
        {
            "enabled": 1,
            "rows": len(train_rows),
            "steps": outcome.steps_done,
            "tokens": outcome.tokens,
            "dev_accuracy_before": round(scores[0], 5),
            "dev_accuracy": round(scores[outcome.best_epoch], 5),
            "best_epoch": outcome.best_epoch,
        },
    )


def _train_mlm(
    encoder: Encoder,
    head: MlmHead,
    train_rows: PackedSplit,
    dev_rows: PackedSplit,
    tokenizer: Tokenizer,
    settings: Pretrain,
    schedule: Training,
    machine: Machine,
    seed: int,
    resume: Resume,
) -> Outcome:
    encoder.compute_dtype = machine.dtype
    encoder.freeze_pooler()
    model = MlmModel(encoder, head).to(machine.device)
    learner = MlmLearner(model, train_rows, dev_rows, tokenizer, schedule, settings.mask_rate, machine, seed)
    return train("pretrain", learner, schedule, resume)


def _open(folder: Path, encoder: Path) -> TaskTokens:
    """The tokens of a task. Raises UserError (C05) when they were made with another vocabulary."""
    opened = open_tokens(folder)
    if opened.vocabulary_sha256 != sha256_of(encoder / "vocab.txt"):
        fail("C05", "these tokens were made with another vocabulary", where=str(folder), fix="run `dvc repro`")
    return opened


def _resume_folder(facts: Mapping[str, object]) -> Path:
    code = folder_hash(Path(yourbert.__file__).parent, "*.py")
    return project_root() / ".yourbert" / "resume" / fingerprint({**facts, "code": code})


def _summary(outcome: Outcome) -> dict[str, int]:
    return {
        "steps": outcome.steps_done,
        "tokens": outcome.tokens,
        "parameters": outcome.parameters,
        "best_epoch": outcome.best_epoch,
    }


def _write_curve(path: Path, outcome: Outcome) -> None:
    lines = [
        (step, epoch, task, "" if loss is None else f"{loss:.5f}", f"{dev:.5f}")
        for step, epoch, task, loss, dev in outcome.curve
    ]
    write_csv(path, CURVE, lines)
