"""Hugging Face Trainer: as it comes, and tuned (bf16 autocast, rows grouped by length, fused AdamW).

It is given the rows of YourBERT's own batches. Grouped by length the batches are others by nature: then those of its
own sampler, of which the block takes one from each stretch of the epoch's range of lengths, so that a few steps stand
for the whole epoch.
"""

from __future__ import annotations

import csv
import gc
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)
from transformers.trainer_pt_utils import LengthGroupedSampler

from benchmarks.cases import TUNED, Block, Job
from benchmarks.peers.clock import StepClock

Examples = list[dict[str, Any]]


class GivenBatches(BatchSampler):
    """The data set's rows in order, cut into batches of the given sizes."""

    def __init__(self, examples: Examples, sizes: list[int]) -> None:
        super().__init__(SequentialSampler(examples), max(sizes), drop_last=False)
        self.sizes = sizes

    def __iter__(self) -> Iterator[list[int]]:
        ends = np.cumsum(self.sizes).tolist()
        return (list(range(end - size, end)) for size, end in zip(self.sizes, ends, strict=True))

    def __len__(self) -> int:
        return len(self.sizes)


class GivenTrainer(Trainer):  # type: ignore[misc]  # transformers is untyped
    """A Trainer that takes its batches as they are given; everything else is its own."""

    batch_sizes: list[int]

    def get_train_dataloader(self) -> Any:
        loader = DataLoader(
            self.train_dataset,
            batch_sampler=GivenBatches(self.train_dataset, self.batch_sizes),
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )
        return self.accelerator.prepare(loader)


def answer(job: Job, variant: str) -> Block:
    if job.threads:
        torch.set_num_threads(job.threads)
    tuned = variant == TUNED
    if tuned and job.device == "cuda":
        # It plans anew for every shape, about a second each.
        torch.backends.cuda.enable_cudnn_sdp(False)
    if job.kind in ("start", "whole"):
        return _script(job, tuned)
    return _train(job, tuned)


def _arguments(job: Job, tuned: bool, out: str, **more: Any) -> Any:
    """Trainer's defaults but for what the task asks: batch size, rate, steps; and no files, reports or bars."""
    tuning = {"bf16": job.bf16, "optim": "adamw_torch_fused"} if tuned else {}
    return TrainingArguments(
        output_dir=out,
        per_device_train_batch_size=job.batch,
        learning_rate=job.training["lr"],
        use_cpu=job.device == "cpu",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **tuning,
        **more,
    )


def _train(job: Job, tuned: bool) -> Block:
    from benchmarks.rows import examples, flops, lengths

    tokenizer = AutoTokenizer.from_pretrained(job.weights)
    split, model, collator = _masked(job, tokenizer) if job.kind == "mlm" else _labelled(job, tokenizer)
    chosen = _batches(split, job, tuned)
    rows = examples(split, np.concatenate(chosen))
    clock = StepClock(job.warmup, job.steps, job.device)
    with tempfile.TemporaryDirectory(dir=job.scratch) as out:
        trainer = GivenTrainer(
            model=model,
            args=_arguments(job, tuned, out, max_steps=len(chosen)),
            train_dataset=rows,
            data_collator=collator,
            callbacks=[clock],
        )
        trainer.batch_sizes = [len(batch) for batch in chosen]
        gc.collect()
        trainer.train()
    read = chosen[job.warmup :]
    lengths_S = lengths(split, read)
    return Block(
        seconds=clock.seconds, steps=job.steps, rows=sum(map(len, read)), tokens=sum(lengths_S),
        flops=0.0 if job.kind == "mlm" else flops(job, lengths_S),
        dtype="bfloat16" if tuned and job.bf16 else "float32", threads=torch.get_num_threads(),
    )  # fmt: skip


def _labelled(job: Job, tokenizer: Any) -> tuple[Any, Any, Any]:
    from benchmarks.rows import opened

    tokens = opened(job, job.task)
    model = AutoModelForSequenceClassification.from_pretrained(job.weights, num_labels=tokens.task.outputs)
    return tokens.splits["train"], model, DataCollatorWithPadding(tokenizer)


def _masked(job: Job, tokenizer: Any) -> tuple[Any, Any, Any]:
    from benchmarks.rows import all_sequences
    from yourbert.config.params import read_params

    pretrain = read_params(Path(job.params)).pretrain
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=pretrain.mlm_probability)
    return all_sequences(job, pretrain.max_length), AutoModelForMaskedLM.from_pretrained(job.weights), collator


def _batches(split: Any, job: Job, tuned: bool) -> list[Any]:
    """YourBERT's batches; tuned, a fair sample of those that Trainer groups by length."""
    from benchmarks.rows import batches
    from yourbert.pretraining.pretrain import NAME
    from yourbert.tokens.batching import row_lengths

    if not tuned:
        return batches(split, job, NAME if job.kind == "mlm" else job.task)
    lengths_R = row_lengths(split)
    rng = torch.Generator().manual_seed(job.seed)
    order = np.asarray(list(LengthGroupedSampler(job.batch, lengths=lengths_R.tolist(), generator=rng)))
    whole = order[: len(order) // job.batch * job.batch].reshape(-1, min(job.batch, len(order)))
    by_length = whole[np.argsort(lengths_R[whole].max(1), kind="stable")]
    return [by_length[place] for count in (job.warmup, job.steps) for place in _spread(count, len(by_length), job.seed)]


def _spread(count: int, batches: int, seed: int) -> list[int]:
    """`count` places evenly over `batches` sorted ones, in random order."""
    places = ((np.arange(count) + 0.5) * batches / max(1, count)).astype(np.int64)
    shuffled: list[int] = np.random.default_rng(seed).permutation(places).tolist()
    return shuffled


def _script(job: Job, tuned: bool) -> Block:
    """What a user's script does: read the tables, tokenize, train, and for a whole run save and score.

    For "start" it ends after the first step. The seconds are the parent's, who saw the process start.
    """
    tokenizer = AutoTokenizer.from_pretrained(job.weights)
    splits = {split: _table(job, job.data[split], tokenizer) for split in ("train", "dev", "test")}
    model = AutoModelForSequenceClassification.from_pretrained(job.weights, num_labels=len(job.data["labels"]))
    start = job.kind == "start"
    grouping = {"train_sampling_strategy": "group_by_length"} if tuned else {}
    length = {"max_steps": 1} if start else {"num_train_epochs": job.training["epochs"], "eval_strategy": "epoch"}
    with tempfile.TemporaryDirectory(dir=job.scratch) as out:
        trainer = Trainer(
            model=model,
            args=_arguments(job, tuned, out, **grouping, **length),
            train_dataset=splits["train"],
            eval_dataset=splits["dev"],
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=_accuracy,
        )
        trainer.train()
        if start:
            return Block(seconds=0.0, threads=torch.get_num_threads())
        trainer.save_model(out)
        metrics = trainer.evaluate()
        trainer.predict([{k: v for k, v in row.items() if k != "labels"} for row in splits["test"]])
        (Path(out) / "metrics.json").write_text(json.dumps(metrics))
    rows = len(splits["train"]) * job.training["epochs"]
    values = {"dev": float(metrics["eval_accuracy"])}
    return Block(seconds=0.0, rows=rows, threads=torch.get_num_threads(), values=values)


def _table(job: Job, name: str, tokenizer: Any) -> Examples:
    data = job.data
    with (Path(job.corpus) / name).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    columns = [[row[column] for row in rows] for column in data["text"]]
    encoded = tokenizer(*columns, truncation=True, max_length=data["max_length"])
    labels = {text: index for index, text in enumerate(data["labels"])}
    return [
        {"input_ids": ids, "token_type_ids": kinds, "labels": labels.get(row.get(data["label"]), 0)}
        for ids, kinds, row in zip(encoded["input_ids"], encoded["token_type_ids"], rows, strict=True)
    ]


def _accuracy(answers: Any) -> dict[str, float]:
    return {"accuracy": float((answers.predictions.argmax(-1) == answers.label_ids).mean())}
