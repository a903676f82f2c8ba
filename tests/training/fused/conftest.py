"""Layers to fuse, their kernels in C, and what the hash of a draw keeps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from yourbert.model.encoder import EncoderConfig, Layer, initialise
from yourbert.training.fused import compiled
from yourbert.training.fused.native import NativeKernels


@pytest.fixture
def kernels() -> NativeKernels:
    return NativeKernels(torch.bfloat16)


def without_what_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has not asked for kernels yet."""
    monkeypatch.setattr(compiled, "library", compiled.library.__wrapped__)
    monkeypatch.setattr("yourbert.training.fused.native.library", compiled.library)
    monkeypatch.setattr(compiled, "_built", compiled._built.__wrapped__)


def layer_of(width: int, wide: int, heads: int) -> Layer:
    config = EncoderConfig(
        vocab_size=10, hidden_size=width, num_hidden_layers=1, num_attention_heads=heads, intermediate_size=wide
    )
    layer, rng = Layer(config, 0.1), torch.Generator().manual_seed(1)
    initialise(layer, rng)
    with torch.no_grad():
        for p in layer.parameters():
            if p.ndim == 1:
                p += 0.2 * torch.randn(p.shape, generator=rng)
    return layer


def kept_by_hash(seed: int, places: int, dropped: int) -> npt.NDArray[np.bool_]:
    """As `yourbert/training/fused/rows.py` draws them."""
    bits = np.arange(places, dtype=np.uint32) + np.uint32(seed & 0xFFFFFFFF)
    bits = (bits ^ (bits >> np.uint32(17))) * np.uint32(0xED5AD4BB)
    bits = (bits ^ (bits >> np.uint32(11))) * np.uint32(0xAC4C1B51)
    bits ^= np.uint32(seed >> 32)
    bits = (bits ^ (bits >> np.uint32(15))) * np.uint32(0x31848BAB)
    return ((bits ^ (bits >> np.uint32(14))) >> np.uint32(16)).astype(np.int64) >= dropped
