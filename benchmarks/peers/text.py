"""Peers that read texts: the `transformers` pipeline and its fast tokenizer."""

from __future__ import annotations

import csv
import gc
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from benchmarks.cases import PIPELINE_BF16, TOKENIZER, Block, Job

BATCH_SIZES = {"cpu": (1, 8, 32, 128), "cuda": (8, 32, 128, 512)}
ROWS_AT_ONCE = 1000


def answer(job: Job, variant: str) -> Block:
    if job.threads:
        torch.set_num_threads(job.threads)
    return _tokenize(job) if variant == TOKENIZER else _predict(job, bf16=variant == PIPELINE_BF16)


def _predict(job: Job, bf16: bool) -> Block:
    """All dev rows, from texts to answers, with each batch size; the fastest counts."""
    from benchmarks.rows import lengths, opened, texts

    if bf16 and not job.bf16:
        raise NotImplementedError("this processor does not compute in bf16")
    tokens = opened(job, job.task)
    dtype = torch.bfloat16 if bf16 else torch.float32
    model = AutoModelForSequenceClassification.from_pretrained(
        job.weights, num_labels=tokens.task.outputs, dtype=dtype
    ).eval()
    answerer = pipeline(
        "text-classification",
        model=model,
        tokenizer=AutoTokenizer.from_pretrained(job.weights),
        device=job.device,
        top_k=None,
    )
    rows = [_as_input(list(row)) for row in texts(job, "dev")[0]]
    cut = {"truncation": True, "max_length": tokens.task.max_length}
    taken: dict[int, float] = {}
    for size in BATCH_SIZES[job.device]:
        answerer(rows[: 2 * size], batch_size=size, **cut)
        gc.collect()
        start = time.perf_counter()
        for _ in range(job.steps):
            answerer(rows, batch_size=size, **cut)
        taken[size] = time.perf_counter() - start
    best = min(taken, key=lambda size: taken[size])
    dev = tokens.splits["dev"]
    count = sum(lengths(dev, [torch.arange(len(dev)).numpy()]))
    return Block(
        seconds=taken[best], steps=job.steps, rows=job.steps * len(rows), tokens=job.steps * count,
        dtype=str(dtype).removeprefix("torch."), threads=torch.get_num_threads(), note=f"batch {best}",
    )  # fmt: skip


def _as_input(row: list[str]) -> Any:
    return row[0] if len(row) == 1 else {"text": row[0], "text_pair": row[1]}


def _tokenize(job: Job) -> Block:
    """The table read with `csv`, its pairs tokenized a thousand at a time, the word pieces kept in lists."""
    tokenizer = AutoTokenizer.from_pretrained(job.weights)
    settings = {"truncation": True, "max_length": job.data["max_length"]}
    rows = tokens = 0
    kept: list[list[int]] = []
    start = time.perf_counter()
    for split in ("train", "dev"):
        for first, second, _ in _chunks(Path(job.rows) / job.data[split], [*job.data["text"], job.data["label"]]):
            ids = tokenizer(first, second, **settings)["input_ids"]
            kept += ids
            rows += len(ids)
            tokens += sum(map(len, ids))
    seconds = time.perf_counter() - start
    return Block(seconds=seconds, rows=rows, tokens=tokens, threads=torch.get_num_threads())


def _chunks(path: Path, columns: list[str]) -> Iterator[list[list[str]]]:
    """The columns of a table, a thousand rows at a time."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        while chunk := list(islice(rows, ROWS_AT_ONCE)):
            yield [[row[column] for row in chunk] for column in columns]
