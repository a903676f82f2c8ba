"""What is counted as the cost of a step is what a plain BERT computes, no more and no less."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.cost import flops_per_token, mlm_head_flops, training_flops, weights_of
from yourbert.model.encoder import EncoderConfig
from yourbert.model.heads import MlmHead
from yourbert.model.pretrained import random_encoder


def config(layers: int, width: int, heads: int, vocabulary: int = 50) -> EncoderConfig:
    return EncoderConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        max_position_embeddings=64,
    )


def test_the_known_shapes_by_hand() -> None:
    minilm, base = config(6, 384, 12), config(12, 768, 12)
    # Per layer and token: q, k, v, output 4 * 384^2; feed-forward 2 * 384 * 1536; times 2, times 3 for training.
    assert flops_per_token(minilm, 0) == 6 * 6 * (4 * 384 * 384 + 2 * 384 * 1536) == 63_700_992
    assert flops_per_token(minilm, 1) - flops_per_token(minilm, 0) == 6 * 3 * 4 * 384 == 27_648
    assert flops_per_token(base, 0) == pytest.approx(509.6e6, rel=1e-4)
    assert flops_per_token(base, 1) - flops_per_token(base, 0) == pytest.approx(0.1106e6, rel=1e-3)
    assert training_flops(minilm, [3, 5]) == 8 * 63_700_992 + (9 + 25) * 27_648


@pytest.mark.parametrize(("layers", "width", "heads", "length"), [(1, 32, 2, 7), (3, 64, 4, 20)])
def test_what_torch_counts_in_the_reference(layers: int, width: int, heads: int, length: int) -> None:
    transformers = pytest.importorskip("transformers")
    shape = config(layers, width, heads)
    facts = shape.to_json() | {"attn_implementation": "eager", "attention_probs_dropout_prob": 0.0}
    model = transformers.BertModel(transformers.BertConfig(**facts), add_pooling_layer=False)
    counter = FlopCounterMode(display=False)
    with counter:
        model(torch.arange(2 * length).reshape(2, length) % 50).last_hidden_state.sum().backward()
    assert training_flops(shape, [length, length]) == counter.get_total_flops()


def test_the_head_of_a_masked_lm() -> None:
    shape, places = config(1, 32, 2), 5
    encoder = random_encoder(shape, torch.Generator().manual_seed(0))
    counter = FlopCounterMode(display=False)
    with counter:
        hidden_ME = torch.randn(places, 32, requires_grad=True)
        head = MlmHead(shape, torch.Generator().manual_seed(0))
        head(hidden_ME, encoder.word_embedding_weight).sum().backward()
    assert mlm_head_flops(shape, places) == counter.get_total_flops()


def test_the_number_of_weights() -> None:
    shape = config(2, 32, 2)
    encoder = random_encoder(shape, torch.Generator().manual_seed(0))
    assert weights_of(shape) == sum(p.numel() for p in encoder.parameters())
