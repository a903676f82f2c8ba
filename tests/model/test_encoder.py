"""The encoder equals the reference implementation, forward and backward, whatever shares its batch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertModel
from transformers.activations import ACT2FN

from yourbert.core.errors import UserError
from yourbert.model.attention import Packed
from yourbert.model.encoder import ACTIVATIONS, ALIASES, Encoder, EncoderConfig
from yourbert.model.pretrained import load_encoder, random_encoder, to_stock

SMALL = EncoderConfig(vocab_size=101, hidden_size=48, num_hidden_layers=3, num_attention_heads=3, intermediate_size=80)
LENGTHS = [1, 2, 8, 31, 32, 33, 60, 8, 512, 100]
Texts = list[tuple[np.ndarray, np.ndarray]]


def draw_texts(lengths: list[int], vocabulary: int) -> Texts:
    """Word pieces and segments; every other text is a pair."""
    rng = np.random.default_rng(1)
    texts = []
    for number, length in enumerate(lengths):
        segments = np.arange(length) >= (length // 2 if number % 2 else length)
        texts.append((rng.integers(0, vocabulary, length), segments.astype(np.int64)))
    return texts


def pack(texts: Texts) -> Packed:
    tokens, segments = (np.concatenate([text[k] for text in texts]) for k in (0, 1))
    lengths = [len(text[0]) for text in texts]
    positions = np.concatenate([np.arange(length) for length in lengths])
    return Packed.from_numpy(tokens, segments, positions, np.concatenate([[0], np.cumsum(lengths)]))


def per_text(hidden_TE: Tensor, batch: Packed) -> list[Tensor]:
    return list(hidden_TE[: batch.layout.tokens].split(batch.layout.lengths_S.tolist()))


def wide_awake(config: EncoderConfig, dropout: float = 0.0) -> Encoder:
    """An encoder whose every weight matters: no zero bias, no identity norm, scores far from uniform."""
    rng = torch.Generator().manual_seed(3)
    encoder = random_encoder(config, rng, dropout)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=rng) * 0.1)
    return encoder


def reference_of(encoder: Encoder) -> BertModel:
    config = BertConfig(
        **encoder.config.to_json(),
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation="eager",
    )
    model = BertModel(config)
    model.load_state_dict(to_stock(encoder), strict=False)
    return model.eval()


def read_by(reference: BertModel, texts: Texts) -> list[Any]:
    return [
        reference(input_ids=torch.from_numpy(tokens)[None], token_type_ids=torch.from_numpy(segments)[None])
        for tokens, segments in texts
    ]


def assert_equals_reference(encoder: Encoder, reference: BertModel, texts: Texts) -> None:
    batch = pack(texts)
    with torch.no_grad():
        hidden_TE = encoder(batch, None)
        cls_SE, mean_SE = encoder.pool_cls(hidden_TE, batch), encoder.pool_mean(hidden_TE, batch)
        answers = read_by(reference, texts)
        for number, (hidden, answer) in enumerate(zip(per_text(hidden_TE, batch), answers, strict=True)):
            wanted = answer.last_hidden_state[0]
            torch.testing.assert_close(hidden, wanted, atol=1e-5, rtol=0)
            torch.testing.assert_close(cls_SE[number], answer.pooler_output[0], atol=1e-5, rtol=0)
            torch.testing.assert_close(mean_SE[number], wanted.mean(0), atol=1e-5, rtol=0)
        torch.testing.assert_close(encoder.pooled(batch, None, "cls"), cls_SE, atol=1e-6, rtol=0)
        torch.testing.assert_close(encoder.pooled(batch, None, "mean"), mean_SE, atol=1e-6, rtol=0)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_hidden_states_equal_the_reference(activation: str) -> None:
    encoder = wide_awake(EncoderConfig.from_json({**SMALL.to_json(), "hidden_act": activation})).eval()
    assert_equals_reference(encoder, reference_of(encoder), draw_texts(LENGTHS, SMALL.vocab_size))


def test_hidden_states_equal_the_reference_on_real_weights(minilm: Path) -> None:
    encoder = load_encoder(minilm, 0.1, torch.Generator()).encoder.eval()
    reference = BertModel.from_pretrained(minilm, attn_implementation="eager").eval()
    assert_equals_reference(encoder, reference, draw_texts([1, 3, 12, 40, 77, 200, 512], 30522))


def gradient_of(parameter: Tensor) -> Tensor:
    """Zero where nothing flowed: the pooler's, when the mean is read."""
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_gradients_equal_the_reference(pooling: str) -> None:
    encoder = wide_awake(SMALL).train()
    reference, texts = reference_of(encoder), draw_texts(LENGTHS, SMALL.vocab_size)
    weights = torch.randn(len(texts), SMALL.hidden_size, generator=torch.Generator().manual_seed(4))
    pooled_SE = encoder.pooled(pack(texts), None, pooling)  # type: ignore[arg-type]
    (pooled_SE * weights).sum().backward()  # type: ignore[no-untyped-call]
    answers = read_by(reference, texts)
    if pooling == "cls":
        wanted_SE = torch.cat([answer.pooler_output for answer in answers])
    else:
        wanted_SE = torch.cat([answer.last_hidden_state.mean(1) for answer in answers])
    (wanted_SE * weights).sum().backward()
    ours, wanted = Encoder(SMALL, 0.0), dict(reference.named_parameters())
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            ours.get_parameter(name).copy_(gradient_of(parameter))
    for name, got in to_stock(ours).items():
        expected = gradient_of(wanted[name])
        scale = max(1.0, float(expected.abs().max()))
        assert (got - expected).abs().max() < 3e-5 * scale, name


@pytest.mark.parametrize("name", ALIASES)
def test_another_name_of_an_activation_is_that_function(name: str) -> None:
    config = EncoderConfig.from_json({**SMALL.to_json(), "hidden_act": name})
    x = torch.linspace(-6, 6, 500)
    torch.testing.assert_close(ACTIVATIONS[config.hidden_act](x), ACT2FN[name](x), atol=1e-6, rtol=0)


@pytest.mark.parametrize("changed", range(len(LENGTHS)))
def test_a_text_does_not_depend_on_its_neighbours(changed: int) -> None:
    encoder, texts = wide_awake(SMALL).eval(), draw_texts(LENGTHS, SMALL.vocab_size)
    other = [*texts]
    other[changed] = ((texts[changed][0] + 1) % SMALL.vocab_size, texts[changed][1])
    with torch.no_grad():
        before, after = (per_text(encoder(batch, None), batch) for batch in (pack(texts), pack(other)))
    for number in range(len(texts)):
        assert torch.equal(before[number], after[number]) == (number != changed)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_text_does_not_depend_on_the_batch(pooling: Any) -> None:
    encoder, texts = wide_awake(SMALL).eval(), draw_texts(LENGTHS * 3 + [5, 9], SMALL.vocab_size)
    order = np.random.default_rng(2).permutation(len(texts))
    with torch.no_grad():
        together = encoder.pooled(pack(texts), None, pooling)
        alone = torch.cat([encoder.pooled(pack([text]), None, pooling) for text in texts])
        shuffled = encoder.pooled(pack([texts[k] for k in order]), None, pooling)
    torch.testing.assert_close(together, alone, atol=2e-6, rtol=0)
    torch.testing.assert_close(together[order], shuffled, atol=2e-6, rtol=0)


def test_the_embedding_of_filler_gets_no_gradient() -> None:
    encoder, texts = wide_awake(SMALL).train(), [(np.array([5, 6, 7]), np.zeros(3, np.int64))]
    encoder.pooled(pack(texts), None, "mean").square().sum().backward()  # type: ignore[no-untyped-call]
    assert encoder.word_embedding_weight.grad is not None
    assert encoder.word_embedding_weight.grad.abs().sum(1).nonzero()[:, 0].tolist() == [5, 6, 7]


def test_bf16_is_close_and_its_gradients_are_fp32() -> None:
    encoder, texts = wide_awake(SMALL).train(), draw_texts(LENGTHS, SMALL.vocab_size)
    gradients, hidden = {}, {}
    for dtype in (torch.float32, torch.bfloat16):
        encoder.compute_dtype = dtype
        encoder.zero_grad()
        hidden[dtype] = encoder(pack(texts), None)
        assert hidden[dtype].dtype == dtype
        encoder.pooled(pack(texts), None, "cls").square().sum().backward()  # type: ignore[no-untyped-call]
        gradients[dtype] = {n: p.grad for n, p in encoder.named_parameters() if p.grad is not None}
    spread = hidden[torch.float32].std()
    assert (hidden[torch.bfloat16].float() - hidden[torch.float32]).std() < 0.02 * spread
    for name, exact in gradients[torch.float32].items():
        close = gradients[torch.bfloat16][name]
        assert close.dtype == torch.float32
        assert (close - exact).norm() < 0.25 * exact.norm() + 1e-3, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_same_seed_same_bytes(dtype: torch.dtype) -> None:
    texts, runs = draw_texts([5, 9, 40], SMALL.vocab_size), []
    encoder = wide_awake(SMALL, dropout=0.1).train()
    encoder.compute_dtype = dtype
    for seed in (1, 1, 2):
        encoder.zero_grad()
        pooled = encoder.pooled(pack(texts), torch.Generator().manual_seed(seed), "cls")
        pooled.sum().backward()  # type: ignore[no-untyped-call]
        runs.append([pooled.detach()] + [p.grad.clone() for p in encoder.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(runs[0], runs[1], strict=True))
    assert not torch.equal(runs[0][0], runs[2][0])


def test_dropout_is_off_in_evaluation_and_needs_a_generator_in_training() -> None:
    encoder, batch = wide_awake(SMALL, dropout=0.1), pack(draw_texts([5, 9], SMALL.vocab_size))
    assert torch.equal(encoder.eval()(batch, None), encoder(batch, torch.Generator()))
    with pytest.raises(AssertionError):
        encoder.train()(batch, None)


def test_config_survives_the_round_trip_and_ignores_unknown_fields() -> None:
    assert EncoderConfig.from_json({**SMALL.to_json(), "use_cache": True, "auto_map": {"x": "y"}}) == SMALL
    small = {k: v for k, v in SMALL.to_json().items() if k not in ("layer_norm_eps", "pad_token_id", "model_type")}
    assert EncoderConfig.from_json(small) == SMALL


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("hidden_size", None, "hidden_size is missing"),
        ("num_hidden_layers", "6", "num_hidden_layers is '6'"),
        ("vocab_size", 0, "vocab_size is 0"),
        ("num_attention_heads", 5, "does not divide"),
        ("hidden_act", "gelu_nwe", "did you mean 'gelu_new'"),
        ("position_embedding_type", "relative_key", "only 'absolute' is supported"),
        ("model_type", "roberta", "only 'bert' is supported"),
        ("is_decoder", True, "only False is supported"),
    ],
)
def test_a_config_of_something_else_is_refused(field: str, value: object, said: str) -> None:
    stock = {k: v for k, v in {**SMALL.to_json(), field: value}.items() if v is not None}
    with pytest.raises(UserError) as refusal:
        EncoderConfig.from_json(stock, "folder/config.json")
    assert said in str(refusal.value) and str(refusal.value).startswith("YB-C10 folder/config.json:")
    assert len(refusal.value.problems) == 1
