"""Milliseconds of a whole training step on a GPU: as a graph with fused layers or plain ones, and without a graph.

    python -m benchmarks.gpu_step [--layers 12 --width 768] [--steps 200] [--deterministic]

A step is gather, forward, backward with dropout, clip and AdamW, as `yourbert.training.graph.graph_step` computes it.
The ways take turns on the same batches, in blocks of steps; medians of the blocks are printed, with the share of
filler, the time a capture took, and the share of the matrix-product peak measured in the same run on random numbers.
Weights and word pieces are random: speed does not depend on them. `--device cpu` shows only that it runs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from yourbert.config.schema import Mixture, Runtime, Training
from yourbert.core.tasks import Task
from yourbert.finetuning.learner import TaskLearner
from yourbert.inference.model_folder import place_model
from yourbert.model.encoder import EncoderConfig
from yourbert.model.multitask import Model
from yourbert.model.pretrained import random_encoder
from yourbert.runtime.machine import Machine, prepare
from yourbert.tokens.packing import PackedSplit, TaskTokens, used_token_ids
from yourbert.training.checkpoint import Resume
from yourbert.training.fused.fusion import fuse
from yourbert.training.graph.graph_step import GraphStep
from yourbert.training.loop import EagerStepper, Stepper, begin

VOCABULARY, SEED, BLOCK = 30522, 11711, 20
# rows a batch; mean, spread, lowest and highest length: like sst, sst in large batches, cfimdb.
TEXTS = {"short x 16": (16, 25, 11, 8, 60), "short x 64": (64, 25, 11, 8, 60), "long x 64": (64, 220, 60, 100, 512)}
WAYS = ("graph", "plain graph", "operations", "one by one")


def main() -> None:
    options = _options()
    runtime = Runtime(device=options.device, precision="auto", num_threads=0, deterministic=options.deterministic)
    machine = prepare(runtime)
    print(f"{'texts':>11} {'way':>11} {'tokens':>7} {'filler':>7} {'ms a step':>10} {'of peak':>8} {'capture s':>10}")
    for name in options.texts or TEXTS:
        _report(name, machine, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name, default in (("steps", 200), ("layers", 12), ("width", 768), ("head-width", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--texts", choices=tuple(TEXTS), nargs="*")
    parser.add_argument("--deterministic", action="store_true")
    return parser.parse_args()


def _report(name: str, machine: Machine, options: argparse.Namespace) -> None:
    steppers: dict[str, tuple[Stepper, TaskLearner, float]] = {}
    for way in WAYS:
        if "graph" in way and not machine.graph:
            continue
        learner = _learner(name, machine, options)
        run = begin("bench", learner, learner.settings, Resume(Path("nothing saved")))
        if way == "one by one":
            stepper: Stepper = EagerStepper(run)
        else:
            longest = learner.samplers["texts"].max_sequence_length
            fused = None if way == "plain graph" else fuse(learner.model, run.optimizer, machine, longest)
            stepper = GraphStep(learner, run, way != "operations", fused)
        learner.model.train()
        seconds = _timed(lambda stepper=stepper: stepper.start_epoch(0, 0, {}), machine)  # type: ignore[misc]
        _take(stepper, BLOCK)
        steppers[way] = stepper, learner, seconds
    times: dict[str, list[float]] = {way: [] for way in steppers}
    tokens: dict[str, int] = dict.fromkeys(steppers, 0)
    for _ in range(options.steps // BLOCK):
        for way, (stepper, _, _) in steppers.items():
            before = time.perf_counter()
            tokens[way] += _take(stepper, BLOCK)
            _wait(machine)
            times[way].append((time.perf_counter() - before) / BLOCK)
    peak = _matmul_peak(machine)
    for way, (stepper, learner, seconds) in steppers.items():
        median, count = statistics.median(times[way]), tokens[way] / len(times[way]) / BLOCK
        filler = _filler(stepper) if isinstance(stepper, GraphStep) else 0.0
        share = count * _flops_per_token(learner, TEXTS[name][1]) / median / peak
        print(
            f"{name:>11} {way:>11} {count:7.0f} {filler:7.1%} {median * 1e3:10.2f} {share:8.1%}"
            + (f" {seconds:10.1f}" if "graph" in way else "")
        )


def _take(stepper: Stepper, steps: int) -> int:
    """The real tokens of so many steps."""
    return sum(stepper.step()[1] for _ in range(steps))


def _learner(name: str, machine: Machine, options: argparse.Namespace) -> TaskLearner:
    batch, *lengths = TEXTS[name]
    task = Task(
        name="texts",
        kind="classification",
        labels=tuple("abcde"),
        low=0.0,
        high=1.0,
        pair=False,
        encoding="cross",
        metric="accuracy",
        max_length=512,
        truncation_side="right",
    )
    config = EncoderConfig(
        vocab_size=VOCABULARY,
        hidden_size=options.width,
        num_hidden_layers=options.layers,
        num_attention_heads=options.width // options.head_width,
        intermediate_size=4 * options.width,
    )
    encoder = random_encoder(config, torch.Generator().manual_seed(SEED), dropout=0.1)
    model = place_model(Model(encoder, [task], "cls", 0.1, torch.Generator().manual_seed(SEED)), machine)
    split = _split(batch * (options.steps + BLOCK), *lengths)
    model.encoder.embeddings.restricted(used_token_ids([split])).__enter__()  # for good
    settings = Training(
        freeze_encoder=False,
        pooling="cls",
        lr=1e-5,
        batch_size=batch,
        epochs=1,
        dropout=0.1,
        head_dropout=0.1,
        schedule="linear",
        warmup_ratio=0.1,
        weight_decay=0.01,
        max_grad_norm=1.0,
        class_weights="none",
        early_stopping_patience=0,
        curriculum="none",
        regularizer="none",
        regularizer_weight=0.0,
    )
    tokens = {"texts": TaskTokens(task, {"train": split, "dev": split}, "", True)}
    return TaskLearner(model, tokens, Mixture(tasks=["texts"], sampling="proportional"), settings, machine, SEED)


def _split(rows: int, mean: int, spread: int, low: int, high: int) -> PackedSplit:
    host = np.random.default_rng(SEED)
    lengths = np.clip(host.normal(mean, spread, rows).round().astype(np.int64), low, high)
    pieces = host.choice(VOCABULARY, VOCABULARY // 2, replace=False)
    return PackedSplit(
        tokens=host.choice(pieces, lengths.sum()),
        offsets=np.concatenate([[0], lengths.cumsum()]),
        second=lengths,
        labels=host.integers(0, 5, rows),
        sequences_per_row=1,
    )


def _filler(stepper: GraphStep) -> float:
    """Filler tokens as a share of the real ones, over the epoch."""
    facts = stepper.shapes.epoch(0)
    filled = sum(bucket.tokens for step in facts for bucket in step.shape.buckets)
    return filled / sum(step.tokens for step in facts) - 1


def _wait(machine: Machine) -> None:
    if machine.device.type == "cuda":
        torch.cuda.synchronize(machine.device)


def _timed(action: Callable[[], object], machine: Machine) -> float:
    _wait(machine)
    start = time.perf_counter()
    action()
    _wait(machine)
    return time.perf_counter() - start


def _matmul_peak(machine: Machine) -> float:
    """Operations a second of the fastest of some large products."""
    size, rng = (8192 if machine.device.type == "cuda" else 512), torch.Generator().manual_seed(SEED)
    a, b = (torch.randn(size, size, generator=rng).to(machine.device, machine.dtype) for _ in range(2))
    return 2 * size**3 / min(_timed(lambda: torch.mm(a, b), machine) for _ in range(10))


def _flops_per_token(learner: TaskLearner, length: int) -> float:
    """Products of forward and backward: 2 per weight and 4 * length * width for scores and context, times three."""
    config = learner.model.encoder.config
    width = config.hidden_size
    weights = 4 * width**2 + 2 * width * config.intermediate_size
    return 3.0 * config.num_hidden_layers * (2 * weights + 4 * length * width)


if __name__ == "__main__":
    main()
