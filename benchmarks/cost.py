"""What a step costs, counted, and what the machine could do, measured: the two sides of "share of the peak".

Counted are the matrix products of the plain model over real tokens: 2 per weight and token, and per layer
4 * length * width for scores and context; training is three times that. Embeddings, norms, heads and padding count
nothing, except a masked LM's head at the places it must guess. So a share of the peak never rises by wasted work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from yourbert.model.encoder import EncoderConfig

SEED = 11711
MATRIX = {"cpu": 2048, "cuda": 8192}
COPIED_BYTES = {"cpu": 1 << 28, "cuda": 1 << 31}
# AdamW reads weight, gradient and two moments and writes all but the gradient, 4 bytes each.
ADAMW_BYTES = 28


def flops_per_token(config: EncoderConfig, length: float) -> float:
    """Training FLOPs (forward and backward) of a real token in a sequence of `length`."""
    width = config.hidden_size
    weights = 4 * width**2 + 2 * width * config.intermediate_size
    return 3.0 * config.num_hidden_layers * (2 * weights + 4 * length * width)


def training_flops(config: EncoderConfig, lengths_S: Iterable[int]) -> float:
    """Training FLOPs of sequences of these lengths."""
    return sum(length * flops_per_token(config, length) for length in lengths_S)


def mlm_head_flops(config: EncoderConfig, places: float) -> float:
    """Training FLOPs of a masked LM's head over the places it guesses: a dense layer and the decoder."""
    width = config.hidden_size
    return 6.0 * places * (width**2 + width * config.vocab_size)


def weights_of(config: EncoderConfig) -> int:
    """How many numbers the encoder learns, embeddings and pooler included."""
    width, wide = config.hidden_size, config.intermediate_size
    embeddings = (config.vocab_size + config.max_position_embeddings + config.type_vocab_size + 2) * width
    layer = 4 * (width**2 + width) + 2 * width * wide + wide + width + 4 * width
    return embeddings + config.num_hidden_layers * layer + width**2 + width


def synchronise(device: str) -> None:
    """Waits for what was sent to a GPU; on a CPU nothing is ever outstanding."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def timed(action: Callable[[], object], clock: Callable[[], float] = time.perf_counter, device: str = "cpu") -> float:
    synchronise(device)
    start = clock()
    action()
    synchronise(device)
    return clock() - start


def matmul_peak(dtype: torch.dtype, device: str = "cpu", clock: Callable[[], float] = time.perf_counter) -> float:
    """FLOP/s of a large square matrix product, the best of eight."""
    import torch

    size = MATRIX[device]
    rng = torch.Generator().manual_seed(SEED)
    a, b = (torch.randn(size, size, generator=rng).to(device, dtype) for _ in range(2))
    return 2 * size**3 / min(timed(partial(torch.mm, a, b), clock, device) for _ in range(8))


def memory_rate(device: str) -> float:
    """Bytes a second, read and written, of copying a large tensor, the best of eight."""
    import torch

    source = torch.zeros(COPIED_BYTES[device], dtype=torch.uint8, device=device).fill_(1)
    target = torch.empty_like(source)
    return 2 * len(source) / min(timed(partial(target.copy_, source), device=device) for _ in range(8))


def peaks(device: str, bf16: bool) -> dict[str, Any]:
    """FLOP/s by dtype and bytes a second; bf16 only where the processor computes in it."""
    import torch

    dtypes = [torch.float32, *([torch.bfloat16] if bf16 else [])]
    measured = {str(d).removeprefix("torch."): matmul_peak(d, device) for d in dtypes}
    return {"flops_per_second": measured, "bytes_per_second": memory_rate(device)}
