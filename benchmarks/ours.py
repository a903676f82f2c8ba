"""YourBERT under the clock: the library's own steps, learners and prediction; only the clock is added.

A training step is what the library's loop asks its stepper for: gathering rows, forward, backward, clip, optimizer and
bookkeeping, one after another or as a captured graph.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.cases import Block, Job
from benchmarks.cost import mlm_head_flops, peaks, synchronise
from benchmarks.rows import all_sequences, batches, flops, lengths, opened, texts
from yourbert.config.params import read_params
from yourbert.config.schema import Mixture, Precision, Runtime, TaskData, Training
from yourbert.core.storage import read_json
from yourbert.core.tasks import Task
from yourbert.evaluation.evaluate import evaluate
from yourbert.finetuning.finetune import finetune
from yourbert.finetuning.learner import LABELED_SPLITS, TaskLearner
from yourbert.inference.model_folder import place_model
from yourbert.inference.predict import predict
from yourbert.model.heads import MlmHead
from yourbert.model.multitask import Model
from yourbert.model.pretrained import load_encoder
from yourbert.pretraining.learner import NAME, MlmLearner, MlmModel
from yourbert.pretraining.pretrain import make_masking
from yourbert.runtime.machine import Machine, computes_bf16, generator, prepare
from yourbert.tokens.batching import gather
from yourbert.tokens.packing import PackedSplit, pack, used_token_ids
from yourbert.tokens.tokenize_task import tokenize_task
from yourbert.tokens.tokenizer import Tokenizer
from yourbert.training.checkpoint import Resume
from yourbert.training.fused.fusion import fuse
from yourbert.training.graph.graph_step import make_stepper
from yourbert.training.loop import EagerStepper, Learner, Run, Stepper, begin


@dataclass(frozen=True)
class Taken:
    """What the timed steps read, and how long they took."""

    rows: int
    tokens: int
    seconds: float


def answer(job: Job, precision: Precision) -> Block:
    machine = prepare(runtime_of(job, precision))
    match job.kind:
        case "train":
            return train_steps(job, machine)
        case "mlm":
            return _mlm(job, machine)
        case "predict":
            return _predict(job, machine)
        case "tokenize":
            return _tokenize(job)
        case "start":
            return _start(job, machine)
        case "whole":
            return _whole(job, precision)
    assert job.kind == "peaks", job.kind
    return _peaks(job, machine)


def runtime_of(job: Job, precision: Precision) -> Runtime:
    return Runtime(device=job.device, precision=precision, num_threads=job.threads, deterministic=False)


def _run(
    learner: Learner,
    settings: Training,
    job: Job,
    stepper_of: Callable[[Run], Stepper],
    warm: Callable[[], object] = lambda: None,
) -> Taken:
    """Takes the job's steps, those of its warm-up first; then calls `warm`, and from its return the clock runs."""
    per_epoch = learner.steps(0)
    stepper = stepper_of(begin("bench", learner, settings, Resume(Path(job.scratch) / "nothing saved")))
    learner.model.train()
    gc.collect()
    read: list[tuple[int, int]] = []
    started = 0.0
    for number in range(job.warmup + job.steps):
        if number % per_epoch == 0:
            stepper.start_epoch(number // per_epoch, number, {})
        if number == job.warmup:
            synchronise(job.device)
            warm()
            started = time.perf_counter()
        read.append(stepper.step())
    synchronise(job.device)
    seconds = time.perf_counter() - started
    rows, tokens = (sum(counts) for counts in zip(*read[job.warmup :], strict=True))
    return Taken(rows, tokens, seconds)


def task_learner(job: Job, machine: Machine, settings: Training) -> TaskLearner:
    """Model and learner of one task, made as `yourbert.finetuning.finetune` makes them."""
    tokens = {job.task: opened(job, job.task)}
    loaded = load_encoder(Path(job.weights), settings.dropout, generator(job.seed, "pooler"))
    described = [t.task for t in tokens.values()]
    heads_rng = generator(job.seed, "heads")
    model = Model(loaded.encoder, described, settings.pooling, settings.head_dropout, heads_rng)
    place_model(model, machine)
    mixture = Mixture(tasks=[job.task], sampling="proportional")
    learner = TaskLearner(model, tokens, mixture, settings, machine, job.seed)
    # As around a training, but for good: the process ends with the measurement.
    model.encoder.embeddings.restricted(used_token_ids(tokens[job.task].splits[s] for s in LABELED_SPLITS)).__enter__()
    return learner


def train_steps(job: Job, machine: Machine, warm: Callable[[], object] = lambda: None) -> Block:
    """The training steps of one task; warm: see `_run`."""
    settings = Training.model_validate(job.training)
    learner = task_learner(job, machine, settings)
    taken = _run(learner, settings, job, partial(make_stepper, learner), warm)
    split = learner.tokens[job.task].splits["train"]
    return _block(job, machine, taken, lengths(split, batches(split, job, job.task)[job.warmup :]))


def _block(job: Job, machine: Machine, taken: Taken, lengths_S: list[int], head_flops: float = 0.0) -> Block:
    assert sum(lengths_S) == taken.tokens, "the clock saw the batches that the peers are given"
    counted = flops(job, lengths_S) + head_flops
    return Block(
        seconds=taken.seconds, steps=job.steps, rows=taken.rows, tokens=taken.tokens, flops=counted,
        dtype=_name(machine.dtype), threads=torch.get_num_threads(),
    )  # fmt: skip


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _mlm(job: Job, machine: Machine) -> Block:
    params = read_params(Path(job.params))
    rows = all_sequences(job, params.pretrain.max_length)
    loaded = load_encoder(Path(job.weights), params.pretrain.dropout, generator(job.seed, "pooler"))
    encoder = loaded.encoder
    head = loaded.mlm_head or MlmHead(encoder.config, generator(job.seed, "mlm head"))
    encoder.compute_dtype, encoder.kernel = machine.dtype, machine.kernel
    encoder.freeze_pooler()
    model = MlmModel(encoder, head).to(machine.device)
    settings = Training.model_validate(job.training)
    masking = make_masking(Tokenizer.load(Path(job.weights)), params.pretrain)
    learner = MlmLearner(model, rows, rows, masking, settings, machine, job.seed)
    longest = learner.sampler.max_sequence_length
    taken = _run(learner, settings, job, lambda run: EagerStepper(run, fuse(model, run.optimizer, machine, longest)))
    read = batches(rows, job, NAME)[job.warmup :]
    ordinary = sum(int((~np.isin(gather(rows, rows_B).tokens_T, masking.special_ids)).sum()) for rows_B in read)
    return _block(job, machine, taken, lengths(rows, read), mlm_head_flops(encoder.config, masking.rate * ordinary))


def _predict(job: Job, machine: Machine) -> Block:
    """From texts to answers, tokenizing included, as the peer's pipeline does."""
    task: Task = opened(job, job.task).task
    rng = generator(job.seed, "heads")
    loaded = load_encoder(Path(job.weights), 0.0, generator(job.seed, "pooler"))
    model = place_model(Model(loaded.encoder, [task], job.training["pooling"], 0.0, rng), machine).eval()
    tokenizer, rows = Tokenizer.load(Path(job.weights)), texts(job, "dev")[0]

    def pass_over() -> PackedSplit:
        packed = pack(tokenizer, task, rows)
        predict(model, task.name, packed, machine)
        return packed

    packed = pass_over()
    gc.collect()
    start = time.perf_counter()
    for _ in range(job.steps):
        pass_over()
    seconds = time.perf_counter() - start
    # A third of training's: the forward pass alone.
    counted = job.steps * flops(job, lengths(packed, [np.arange(len(packed))])) / 3
    return Block(
        seconds=seconds, steps=job.steps, rows=job.steps * len(rows), tokens=job.steps * len(packed.tokens),
        flops=counted, dtype=_name(machine.dtype), threads=torch.get_num_threads(),
    )  # fmt: skip


def _tokenize(job: Job) -> Block:
    """A table of rows, read, checked, tokenized and written: the work of the stage `tokenize`."""
    data, folder = TaskData.model_validate(job.data), Path(job.rows)
    with tempfile.TemporaryDirectory(dir=job.scratch) as out:
        start = time.perf_counter()
        account = tokenize_task("rows", data, folder, Path(job.weights), Path(out) / "rows")
        seconds = time.perf_counter() - start
    splits = account["splits"].values()
    return Block(
        seconds=seconds, rows=sum(s["rows_used"] for s in splits), tokens=sum(s["tokens"] for s in splits),
        threads=torch.get_num_threads(),
    )  # fmt: skip


def _start(job: Job, machine: Machine) -> Block:
    """From texts to the end of the first step; the seconds are the parent's, who saw the process start."""
    data = TaskData.model_validate(job.data)
    with tempfile.TemporaryDirectory(dir=job.scratch) as out:
        tokenize_task(job.task, data, Path(job.corpus), Path(job.weights), Path(out) / job.task)
        settings = Training.model_validate(job.training)
        learner = task_learner(Job(**job.to_json() | {"tokens": out}), machine, settings)
        _run(learner, settings, job, partial(make_stepper, learner))
    return Block(seconds=0.0, threads=torch.get_num_threads(), dtype=_name(machine.dtype))


def _whole(job: Job, precision: Precision) -> Block:
    """Texts in, a saved model and its metrics out: tokenize, tailor, evaluate."""
    params = read_params(Path(job.params))
    runtime = runtime_of(job, precision)
    weights = Path(job.weights)
    with tempfile.TemporaryDirectory(dir=job.scratch) as name:
        out = Path(name)
        data = TaskData.model_validate(job.data)
        account = tokenize_task(job.task, data, Path(job.corpus), weights, out / "tokens" / job.task)
        mixture = Mixture(tasks=[job.task], sampling="proportional")
        settings = Training.model_validate(job.training)
        # A name of its own: no state of a run that was cut off can be picked up.
        run = f"bench {out.name}"
        finetune(
            run, mixture, settings, runtime, job.seed, weights, out / "tokens", out / "model", out / "curve.csv",
            out / "cost.json",
        )  # fmt: skip
        evaluate(
            out / "model",
            out / "tokens",
            params.evaluate,
            runtime,
            out / "answers",
            out / "metrics.json",
            out / "c.csv",
        )
        score = read_json(out / "metrics.json")[job.task]["dev"]
    rows = account["splits"]["train"]["rows_used"] * settings.epochs
    values = {"dev": score.get("accuracy", score.get("pearson"))}
    return Block(seconds=0.0, rows=rows, threads=torch.get_num_threads(), values=values)


def _peaks(job: Job, machine: Machine) -> Block:
    measured = peaks(job.device, computes_bf16(machine.device))
    values = {**measured["flops_per_second"], "bytes_per_second": measured["bytes_per_second"]}
    return Block(seconds=0.0, threads=torch.get_num_threads(), values=values)
