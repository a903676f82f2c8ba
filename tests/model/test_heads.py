"""What each task's facts make of pooled vectors, and the masked-LM head against the reference."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM

from tests.model.conftest import TASKS, each_task
from tests.model.test_encoder import SMALL, draw_texts, pack, wide_awake
from yourbert.core.tasks import Task
from yourbert.model.heads import CosineHead, Head, MlmHead, SimilarityHead, build_head
from yourbert.model.pretrained import MLM_NAMES, to_stock

ROWS, WIDTH = 6, SMALL.hidden_size


def pooled_for(task: Task) -> Tensor:
    return torch.randn(ROWS * task.sequences_per_row, WIDTH, generator=torch.Generator().manual_seed(1))


def head_for(task: Task, p: float = 0.1, seed: int = 1) -> Head:
    return build_head(task, WIDTH, p, torch.Generator().manual_seed(seed))


@each_task
def test_scores_and_predictions_have_the_shape_and_range_of_the_task(task: Task) -> None:
    head = head_for(task).eval()
    scores_BC = head(pooled_for(task) * 50, None)
    assert scores_BC.shape == (ROWS, task.outputs)
    predicted = head.predict(scores_BC)
    if task.kind == "classification":
        torch.testing.assert_close(predicted.sum(1), torch.ones(ROWS))
        assert predicted.argmax(1).equal(scores_BC.argmax(1))
    else:
        assert predicted.shape == (ROWS,)
        assert predicted.min() >= task.low and predicted.max() <= task.high


@each_task
def test_dropout_follows_the_generator_and_the_mode(task: Task) -> None:
    head, pooled = head_for(task, p=0.5).train(), pooled_for(task)
    first, again, other = (head(pooled, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert torch.equal(first, other) == isinstance(head, CosineHead)
    assert torch.equal(head.eval()(pooled, None), head(pooled, None))
    if not isinstance(head, CosineHead):
        with pytest.raises(AssertionError):
            head.train()(pooled, None)


@each_task
def test_a_head_is_drawn_from_its_generator(task: Task) -> None:
    first, again, other = (head_for(task, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    if task.kind == "classification":
        assert not torch.equal(first["linear.weight"], other["linear.weight"])
        assert first["linear.weight"].std() == pytest.approx(0.02, rel=0.3)
        assert first["linear.bias"].abs().max() == 0


def test_two_texts_are_told_apart_by_both_and_their_difference() -> None:
    head, pooled = head_for(TASKS[2]).eval(), pooled_for(TASKS[2])
    weight, bias = head.get_parameter("linear.weight"), head.get_parameter("linear.bias")
    for row in range(ROWS):
        u, v = pooled[2 * row], pooled[2 * row + 1]
        wanted = weight @ torch.cat([u, v, (u - v).abs()]) + bias
        torch.testing.assert_close(head(pooled, None)[row], wanted)


def test_a_cosine_starts_as_the_similarity() -> None:
    head = head_for(TASKS[4])
    assert isinstance(head, CosineHead)
    u = torch.eye(4)[0]
    pooled = torch.stack([u, u, u, 3 * torch.eye(4)[1], u, -2 * u])
    scores = head(pooled, None)
    torch.testing.assert_close(scores[:, 0], torch.tensor([1.0, 0.0, -1.0]))
    torch.testing.assert_close(head.predict(scores), torch.tensor([5.0, -1.0, -1.0]))
    torch.testing.assert_close(head.estimate(scores), torch.tensor([5.0, -1.0, -7.0]))
    head(pooled, None).sum().backward()
    assert all(p.grad is not None for p in (head.scale, head.bias)) and len(list(head.parameters())) == 2


def test_a_regression_maps_its_logit_onto_the_scale() -> None:
    head = head_for(TASKS[3])
    assert isinstance(head, SimilarityHead)
    logits = torch.tensor([[0.0], [30.0], [-30.0]])
    torch.testing.assert_close(head.estimate(logits), torch.tensor([2.0, 5.0, -1.0]))


def test_masked_lm_logits_and_gradients_equal_the_reference() -> None:
    encoder, rng = wide_awake(SMALL).eval(), torch.Generator().manual_seed(6)
    head = MlmHead(SMALL, rng)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=rng) * 0.1)
    reference = BertForMaskedLM(BertConfig(**SMALL.to_json(), attn_implementation="eager")).eval()
    ours = {stock: head.get_parameter(name).detach() for name, stock in MLM_NAMES.items()}
    reference.load_state_dict({f"bert.{n}": t for n, t in to_stock(encoder).items()} | ours, strict=False)
    texts = draw_texts([30], SMALL.vocab_size)
    places = torch.tensor([3, 7, 20])
    logits_MV = head(encoder(pack(texts), None)[places], encoder.word_embedding_weight)
    answer: Any = reference(torch.from_numpy(texts[0][0])[None], token_type_ids=torch.from_numpy(texts[0][1])[None])
    torch.testing.assert_close(logits_MV, answer.logits[0, places], atol=1e-5, rtol=0)
    logits_MV.square().mean().backward()
    answer.logits[0, places].square().mean().backward()
    wanted = dict(reference.named_parameters())
    pairs = [(head.get_parameter(name), wanted[stock]) for name, stock in MLM_NAMES.items()]
    pairs.append((encoder.embeddings.word, wanted["bert.embeddings.word_embeddings.weight"]))
    for got, expected in pairs:
        assert got.grad is not None and expected.grad is not None
        torch.testing.assert_close(got.grad, expected.grad, atol=1e-5, rtol=1e-5)


def test_masked_lm_logits_are_fp32_from_bf16_hidden_vectors() -> None:
    head = MlmHead(SMALL, torch.Generator().manual_seed(1))
    hidden = torch.from_numpy(np.linspace(-1, 1, 3 * WIDTH, dtype=np.float32)).view(3, WIDTH)
    words = torch.randn(SMALL.vocab_size, WIDTH, generator=torch.Generator().manual_seed(1))
    exact, close = head(hidden, words), head(hidden.bfloat16(), words)
    assert close.dtype == torch.float32
    torch.testing.assert_close(close, exact, atol=0.05, rtol=0.05)
