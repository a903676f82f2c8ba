"""Milliseconds of one training step (forward and backward, dropout on): texts short and long, fp32 and bf16.

    python benchmarks/step.py [--steps 20] [--threads 2] [--cpu-time] [--layers 6 --width 384]

Variants take turns, each step sees another batch, medians and minima are printed. The matmul peak is measured
in the same run. Weights and word pieces are random: speed does not depend on them. On a busy machine wall time
says little; `--threads 1 --cpu-time` counts the processor time of the step alone.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from yourbert.attention import Packed
from yourbert.encoder import Encoder, EncoderConfig
from yourbert.pretrained import random_encoder

VOCABULARY = 30522
SEED = 11711


@dataclass(frozen=True)
class Variant:
    """rows texts of lengths mean +- spread within low .. high, in one precision."""

    name: str
    rows: int
    lengths: tuple[int, int, int, int]
    dtype: torch.dtype


SHORT, LONG = (25, 11, 8, 60), (220, 60, 100, 400)
VARIANTS = tuple(
    Variant(f"{'long' if lengths is LONG else 'short'} x {rows}", rows, lengths, dtype)
    for rows, lengths in ((16, SHORT), (32, SHORT), (16, LONG))
    for dtype in (torch.bfloat16, torch.float32)
)


def main() -> None:
    options = _options()
    _prepare(options.threads)
    clock = time.process_time if options.cpu_time else time.perf_counter
    config = EncoderConfig(
        vocab_size=VOCABULARY,
        hidden_size=options.width,
        num_hidden_layers=options.layers,
        num_attention_heads=options.width // options.head_width,
        intermediate_size=4 * options.width,
    )
    encoder = random_encoder(config, torch.Generator().manual_seed(SEED), dropout=0.1).train()
    times: dict[Variant, list[float]] = {variant: [] for variant in VARIANTS}
    tokens: dict[Variant, list[int]] = {variant: [] for variant in VARIANTS}
    host, rng = np.random.default_rng(SEED), torch.Generator().manual_seed(SEED)
    for number in range(options.warmup + options.steps):
        for variant in VARIANTS:
            arrays = _draw_batch(variant, host)
            elapsed = _timed(partial(_step, encoder, variant, arrays, rng), clock)
            if number >= options.warmup:
                times[variant].append(elapsed)
                tokens[variant].append(len(arrays[0]))
    peak = {dtype: _matmul_peak(dtype, clock) for dtype in (torch.bfloat16, torch.float32)}
    print(f"{'texts':>12} {'dtype':>9} {'tokens':>7} {'median ms':>10} {'min ms':>8} {'of matmul peak':>15}")
    for variant in VARIANTS:
        median, count = statistics.median(times[variant]), statistics.mean(tokens[variant])
        share = count * _flops_per_token(config, variant.lengths[0]) / median / peak[variant.dtype]
        dtype = str(variant.dtype).removeprefix("torch.")
        fastest = min(times[variant])
        print(f"{variant.name:>12} {dtype:>9} {count:7.0f} {median * 1e3:10.1f} {fastest * 1e3:8.1f} {share:15.0%}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name, default in (
        ("steps", 20),
        ("warmup", 5),
        ("threads", 2),
        ("layers", 6),
        ("width", 384),
        ("head-width", 32),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--cpu-time", action="store_true")
    return parser.parse_args()


def _prepare(threads: int) -> None:
    """As `yourbert.runtime` prepares a process: memory is kept, fp32 products go to oneDNN."""
    if sys.platform == "linux":
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 2**30)
        libc.mallopt(-1, 2**30)
    torch.set_num_threads(threads)
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False


def _draw_batch(variant: Variant, host: np.random.Generator) -> tuple[np.ndarray, ...]:
    mean, spread, low, high = variant.lengths
    lengths = np.clip(host.normal(mean, spread, variant.rows).round().astype(np.int64), low, high)
    offsets = np.concatenate([[0], lengths.cumsum()])
    tokens = host.integers(0, VOCABULARY, offsets[-1])
    return tokens, np.zeros_like(tokens), np.concatenate([np.arange(n) for n in lengths]), offsets


def _step(encoder: Encoder, variant: Variant, arrays: tuple[np.ndarray, ...], rng: torch.Generator) -> None:
    encoder.compute_dtype = variant.dtype
    encoder.zero_grad(set_to_none=True)
    encoder.pooled(Packed.from_numpy(*arrays), rng, "cls").square().sum().backward()  # type: ignore[no-untyped-call]


def _timed(action: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    action()
    return clock() - start


def _matmul_peak(dtype: torch.dtype, clock: Callable[[], float], size: int = 2048) -> float:
    a, b = (torch.randn(size, size, generator=torch.Generator().manual_seed(SEED)).to(dtype) for _ in range(2))
    return 2 * size**3 / min(_timed(partial(torch.mm, a, b), clock) for _ in range(8))


def _flops_per_token(config: EncoderConfig, length: int) -> float:
    """Products of forward and backward: 2 per weight and 4 * length * width for scores and context, times three."""
    width = config.hidden_size
    weights = 4 * width**2 + 2 * width * config.intermediate_size
    return 3.0 * config.num_hidden_layers * (2 * weights + 4 * length * width)


if __name__ == "__main__":
    main()
