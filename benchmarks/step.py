"""Milliseconds of one forward and backward pass (dropout on): texts short and long, fp32 and bf16, nothing else.

    python -m benchmarks.step [--steps 20] [--threads 2] [--cpu-time] [--layers 6 --width 384]

`benchmarks.run` measures whole training steps on real rows beside other libraries; this is the microscope. Variants
take turns, each step sees another batch, medians and minima are printed, shares are of the matmul peak measured in the
same run. Weights and word pieces are random: speed does not depend on them. On a busy machine wall time says
little; `--threads 1 --cpu-time` counts the processor time of the step alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.cost import SEED, flops_per_token, matmul_peak, timed
from yourbert.config.schema import Runtime
from yourbert.model.attention import Packed
from yourbert.model.encoder import Encoder, EncoderConfig
from yourbert.model.pretrained import random_encoder
from yourbert.runtime.machine import prepare

VOCABULARY = 30522
Arrays = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]


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
    prepare(Runtime(device="cpu", precision="auto", num_threads=options.threads, deterministic=False))
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
            elapsed = timed(partial(_step, encoder, variant, arrays, rng), clock)
            if number >= options.warmup:
                times[variant].append(elapsed)
                tokens[variant].append(len(arrays[0]))
    peak = {dtype: matmul_peak(dtype, clock=clock) for dtype in (torch.bfloat16, torch.float32)}
    print(f"{'texts':>12} {'dtype':>9} {'tokens':>7} {'median ms':>10} {'min ms':>8} {'of matmul peak':>15}")
    for variant in VARIANTS:
        median, count = statistics.median(times[variant]), statistics.mean(tokens[variant])
        share = count * flops_per_token(config, variant.lengths[0]) / median / peak[variant.dtype]
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


def _draw_batch(variant: Variant, host: np.random.Generator) -> Arrays:
    mean, spread, low, high = variant.lengths
    lengths = np.clip(host.normal(mean, spread, variant.rows).round().astype(np.int64), low, high)
    offsets = np.concatenate([[0], lengths.cumsum()])
    tokens = host.integers(0, VOCABULARY, offsets[-1])
    return tokens, np.zeros_like(tokens), np.concatenate([np.arange(n) for n in lengths]), offsets


def _step(encoder: Encoder, variant: Variant, arrays: Arrays, rng: torch.Generator) -> None:
    encoder.compute_dtype = variant.dtype
    encoder.zero_grad(set_to_none=True)
    tokens, segments, positions, offsets = arrays
    batch = Packed.from_numpy(tokens, segments, positions, offsets)
    encoder.pooled(batch, rng, "cls").square().sum().backward()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
