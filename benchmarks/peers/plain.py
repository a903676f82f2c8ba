"""The simplest reference: a plain PyTorch loop over the `transformers` model, padded, fp32; and the parity with it."""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from benchmarks.cases import Block, Job
from benchmarks.cost import synchronise
from benchmarks.rows import batches, examples, flops, lengths, opened

Examples = list[dict[str, Any]]
DEV_ROWS = 64


def answer(job: Job) -> Block:
    if job.threads:
        torch.set_num_threads(job.threads)
    return _parity(job) if job.kind == "parity" else _train(job)


def padded(rows: Examples, device: str) -> dict[str, Tensor]:
    """A padded batch as the model takes it; word piece 0 is [PAD]."""
    made = {}
    for name in ("input_ids", "token_type_ids"):
        columns = [torch.tensor(row[name]) for row in rows]
        made[name] = nn.utils.rnn.pad_sequence(columns, batch_first=True)
    sizes = torch.tensor([len(row["input_ids"]) for row in rows])
    made["attention_mask"] = (torch.arange(int(sizes.max())) < sizes[:, None]).long()
    made["labels"] = torch.tensor([row["labels"] for row in rows])
    return {name: tensor.to(device) for name, tensor in made.items()}


def _train(job: Job) -> Block:
    tokens = opened(job, job.task)
    split, settings = tokens.splits["train"], job.training
    model = AutoModelForSequenceClassification.from_pretrained(job.weights, num_labels=tokens.task.outputs)
    model.to(job.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), settings["lr"], weight_decay=settings["weight_decay"], fused=True)
    chosen = batches(split, job, job.task)
    data = [examples(split, rows) for rows in chosen]
    started = 0.0
    gc.collect()
    for step, rows in enumerate(data):
        if step == job.warmup:
            synchronise(job.device)
            started = time.perf_counter()
        loss = model(**padded(rows, job.device)).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings["max_grad_norm"] or float("inf"))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        float(loss.detach())
    synchronise(job.device)
    seconds = time.perf_counter() - started
    read = chosen[job.warmup :]
    lengths_S = lengths(split, read)
    return Block(
        seconds=seconds, steps=job.steps, rows=sum(map(len, read)), tokens=sum(lengths_S), flops=flops(job, lengths_S),
        dtype="float32", threads=torch.get_num_threads(),
    )  # fmt: skip


def _parity(job: Job) -> Block:
    """How far the packed model in fp32 is from the padded one, with the same weights and no dropout.

    The loss is that of the first training step, taken from the library's own learner; the logits are of dev rows.
    """
    from benchmarks.ours import task_learner
    from yourbert.config.schema import Runtime, Training
    from yourbert.inference.predict import to_device
    from yourbert.runtime.machine import prepare
    from yourbert.tokens.batching import gather

    machine = prepare(Runtime(device=job.device, precision="fp32", num_threads=job.threads, deterministic=False))
    settings = Training.model_validate(job.training | {"dropout": 0.0, "head_dropout": 0.0, "pooling": "cls"})
    learner = task_learner(job, machine, settings)
    ours = learner.model
    theirs = _twin(ours, job)
    split = learner.tokens[job.task].splits["train"]
    first = batches(split, job, job.task)[0]
    with torch.no_grad():
        loss = next(learner.losses(0, 0)).loss
        loss_difference = abs(float(loss) - float(theirs(**padded(examples(split, first), job.device)).loss))
        dev = learner.tokens[job.task].splits["dev"]
        rows = torch.arange(min(DEV_ROWS, len(dev))).numpy()
        logits = ours(job.task, to_device(gather(dev, rows), machine), None)
        difference = logits - theirs(**padded(examples(dev, rows), job.device)).logits
    values = {"loss": loss_difference, "logits": float(difference.abs().max())}
    return Block(seconds=0.0, rows=len(first) + len(rows), values=values, threads=torch.get_num_threads())


def _twin(ours: Any, job: Job) -> Any:
    """The `transformers` model with the same encoder and the same last layer."""
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0}
    linear = ours.heads[job.task].linear
    twin = AutoModelForSequenceClassification.from_pretrained(
        Path(job.weights), num_labels=linear.out_features, **dropout
    )
    with torch.no_grad():
        twin.classifier.weight.copy_(linear.weight)
        twin.classifier.bias.copy_(linear.bias)
    return twin.to(job.device).train()
