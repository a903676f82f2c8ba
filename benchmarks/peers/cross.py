"""sentence-transformers CrossEncoder on tasks of pairs, as its guide trains it: it tokenizes each batch anew."""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from sentence_transformers.cross_encoder import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss, CrossEntropyLoss

from benchmarks.cases import Block, Job
from benchmarks.peers.clock import StepClock
from benchmarks.peers.trainer import GivenBatches
from benchmarks.rows import batches, flops, lengths, opened, texts


def answer(job: Job) -> Block:
    if job.threads:
        torch.set_num_threads(job.threads)
    tokens = opened(job, job.task)
    task, split = tokens.task, tokens.splits["train"]
    similarity = task.kind == "similarity"
    model = CrossEncoder(job.weights, num_labels=task.outputs, max_length=task.max_length, device=job.device)
    chosen = batches(split, job, job.task)
    sizes = [len(rows) for rows in chosen]
    rows, labels = texts(job, "train")
    order = np.concatenate(chosen).tolist()
    columns: dict[str, list[Any]] = {f"text{place}": [rows[row][place] for row in order] for place in (0, 1)}
    # A similarity on 0..1, as its loss wants it.
    columns["label"] = [_label(labels[row], task.low, task.high) if similarity else labels[row] for row in order]
    clock = StepClock(job.warmup, job.steps, job.device)
    with tempfile.TemporaryDirectory(dir=job.scratch) as out:
        arguments = CrossEncoderTrainingArguments(
            output_dir=str(Path(out)),
            per_device_train_batch_size=job.batch,
            learning_rate=job.training["lr"],
            max_steps=len(chosen),
            use_cpu=job.device == "cpu",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            batch_sampler=lambda dataset, **_: GivenBatches(dataset, sizes),
        )
        loss = BinaryCrossEntropyLoss(model) if similarity else CrossEntropyLoss(model)
        trainer = CrossEncoderTrainer(
            model=model, args=arguments, train_dataset=Dataset.from_dict(columns), loss=loss, callbacks=[clock]
        )
        gc.collect()
        trainer.train()
    read = chosen[job.warmup :]
    lengths_S = lengths(split, read)
    return Block(
        seconds=clock.seconds, steps=job.steps, rows=sum(map(len, read)), tokens=sum(lengths_S),
        flops=flops(job, lengths_S), dtype="float32", threads=torch.get_num_threads(),
    )  # fmt: skip


def _label(value: float | None, low: float, high: float) -> float:
    assert value is not None, "training rows have labels"
    return (value - low) / (high - low)
