"""Stock checkpoints to ours and back, strict both ways."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModel,
    BertForMaskedLM,
    BertForPreTraining,
    BertForSequenceClassification,
    BertModel,
)

from tests.model.test_encoder import SMALL, assert_equals_reference, draw_texts, reference_of, wide_awake
from yourbert.core.errors import UserError
from yourbert.core.storage import read_json, read_tensors, write_json, write_tensors
from yourbert.model.encoder import Encoder
from yourbert.model.heads import MlmHead
from yourbert.model.pretrained import (
    LoadedEncoder,
    from_stock,
    load_encoder,
    random_encoder,
    save_encoder,
    to_stock,
)

Tensors = dict[str, Tensor]
QUERY, POOLER = "encoder.layer.1.attention.self.query.weight", "pooler.dense.weight"


def load(folder: Path) -> LoadedEncoder:
    return load_encoder(folder, 0.1, torch.Generator().manual_seed(9))


def mlm_head() -> MlmHead:
    head = MlmHead(SMALL, torch.Generator().manual_seed(8))
    torch.nn.init.normal_(head.bias, generator=torch.Generator().manual_seed(8))
    return head


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_encoder(tmp_path, wide_awake(SMALL), None)
    return tmp_path


def rewrite(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    write_tensors(folder / "model.safetensors", change(read_tensors(folder / "model.safetensors")))


def assert_same(one: torch.nn.Module, other: torch.nn.Module) -> None:
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_round_trip_keeps_every_bit(saved: Path, tmp_path: Path) -> None:
    loaded = load(saved)
    assert loaded.mlm_head is None and loaded.notes == ()
    assert_same(loaded.encoder, wide_awake(SMALL))
    save_encoder(tmp_path / "again", loaded.encoder, None)
    again = (tmp_path / "again" / "model.safetensors").read_bytes()
    assert again == (saved / "model.safetensors").read_bytes()


def test_the_round_trip_keeps_the_masked_lm_head(tmp_path: Path) -> None:
    head = mlm_head()
    save_encoder(tmp_path, wide_awake(SMALL), head)
    loaded = load(tmp_path)
    assert loaded.mlm_head is not None
    assert_same(loaded.mlm_head, head)
    assert_same(loaded.encoder, wide_awake(SMALL))


def test_real_weights_survive_the_round_trip(minilm: Path, tmp_path: Path) -> None:
    loaded = load(minilm)
    save_encoder(tmp_path, loaded.encoder, None)
    stock, ours = read_tensors(minilm / "model.safetensors"), read_tensors(tmp_path / "model.safetensors")
    assert stock.keys() - ours.keys() == {"embeddings.position_ids"}
    assert all(torch.equal(ours[name], stock[name]) for name in ours)


@pytest.mark.parametrize("reader", [BertModel, AutoModel])
def test_the_reference_loads_the_folder_without_a_key_amiss(saved: Path, reader: type) -> None:
    model, report = reader.from_pretrained(saved, output_loading_info=True, attn_implementation="eager")
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    assert_equals_reference(load(saved).encoder.eval(), model.eval(), draw_texts([4, 40], SMALL.vocab_size))


def test_the_reference_finds_the_masked_lm_head(tmp_path: Path) -> None:
    head = mlm_head()
    save_encoder(tmp_path, wide_awake(SMALL), head)
    model, report = BertForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert set(report["unexpected_keys"]) == {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    assert torch.equal(model.cls.predictions.bias, head.bias)
    assert torch.equal(model.cls.predictions.transform.dense.weight, head.dense.weight)
    _, report = BertModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and all(name.startswith("cls.") for name in report["unexpected_keys"])


@pytest.mark.parametrize("kind", [BertForMaskedLM, BertForPreTraining])
def test_a_folder_that_the_reference_saved_is_read(tmp_path: Path, kind: type) -> None:
    stock = kind(reference_of(wide_awake(SMALL)).config).eval()
    stock.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert loaded.mlm_head is not None
    assert torch.equal(loaded.mlm_head.bias, stock.cls.predictions.bias)
    missing_pooler = kind is BertForMaskedLM
    assert bool(loaded.notes) == missing_pooler
    if not missing_pooler:
        assert_equals_reference(loaded.encoder.eval(), stock.bert, draw_texts([4, 40], SMALL.vocab_size))


def test_older_names_and_the_prefix_are_understood(saved: Path) -> None:
    def old(tensors: Tensors) -> Tensors:
        names = {n: n.replace("LayerNorm.weight", "LayerNorm.gamma") for n in tensors}
        names = {n: "bert." + old.replace("LayerNorm.bias", "LayerNorm.beta") for n, old in names.items()}
        extras = {
            "bert.embeddings.position_ids": torch.arange(512)[None],
            "cls.seq_relationship.weight": torch.ones(2, 48),
            "cls.seq_relationship.bias": torch.ones(2),
        }
        return {names[n]: t for n, t in tensors.items()} | extras

    rewrite(saved, old)
    assert_same(load(saved).encoder, wide_awake(SMALL))


def test_half_precision_becomes_fp32(saved: Path) -> None:
    rewrite(saved, lambda tensors: {n: t.bfloat16() for n, t in tensors.items()})
    for got, exact in zip(load(saved).encoder.parameters(), wide_awake(SMALL).parameters(), strict=True):
        assert got.dtype == torch.float32 and torch.equal(got, exact.bfloat16().float())


def test_a_missing_pooler_is_drawn_from_the_generator_and_noted(saved: Path) -> None:
    rewrite(saved, lambda tensors: {n: t for n, t in tensors.items() if not n.startswith("pooler.")})
    first, again = load(saved), load(saved)
    assert "no pooler" in first.notes[0]
    assert_same(first.encoder, again.encoder)
    assert float(first.encoder.pooler.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
    with pytest.raises(UserError, match="YB-C03"):
        from_stock(read_tensors(saved / "model.safetensors"), SMALL)


def nan_in_query(tensors: Tensors) -> Tensors:
    tensors[QUERY][3, 3] = torch.nan
    return tensors


def without(name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {n: t for n, t in tensors.items() if n != name}


def extra(name: str, shape: tuple[int, ...] = (5, 48)) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {**tensors, name: torch.ones(shape)}


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (without(QUERY), "C03", f"1 tensor does not match config.json: {QUERY} [48, 48] is missing"),
        (without(POOLER), "C03", f"{POOLER} [48, 48] is missing"),
        (extra("classifier.weight"), "C03", "classifier.weight [5, 48] is unexpected"),
        (extra(QUERY, (48, 47)), "C03", f"{QUERY} is [48, 47], not [48, 48]"),
        (extra("bert." + QUERY, (48, 48)), "C03", "occur twice"),
        (extra("cls.predictions.bias", (101,)), "C03", "4 tensors do not match config.json: cls.predictions.transform"),
        (extra("cls.predictions.decoder.weight", (101, 48)), "C03", "decoder is not tied"),
        (lambda t: {**t, QUERY: t[QUERY].to(torch.int8)}, "C03", "is [48, 48] of int8, not [48, 48]"),
        (nan_in_query, "C07", f"NaN or infinite: {QUERY}"),
        (lambda t: {n: x * torch.inf for n, x in t.items()}, "C07", "and 50 more"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    saved: Path, change: Callable[[Tensors], Tensors], code: str, said: str
) -> None:
    rewrite(saved, change)
    with pytest.raises(UserError) as refusal:
        load(saved)
    message = str(refusal.value)
    assert message.startswith(f"YB-{code} {saved / 'model.safetensors'}:") and said in message
    assert len(refusal.value.problems) == 1 and "\n" not in message


def test_another_shape_of_bert_names_five_tensors(saved: Path) -> None:
    config = read_json(saved / "config.json")
    write_json(saved / "config.json", {**config, "hidden_size": 96})
    with pytest.raises(UserError) as refusal:
        load(saved)
    message = str(refusal.value)
    assert message.count(", not [") == 5 and "more" in message and "YB-C03" in message


def test_another_tasks_head_is_refused(tmp_path: Path) -> None:
    BertForSequenceClassification(reference_of(wide_awake(SMALL)).config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"classifier\.bias"):
        load(tmp_path)


def test_pickled_weights_are_not_opened(saved: Path) -> None:
    (saved / "model.safetensors").rename(saved / "pytorch_model.bin")
    with pytest.raises(UserError, match="YB-C04"):
        load(saved)


def test_a_missing_or_cut_file_is_refused(saved: Path) -> None:
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="YB-C01"):
        load(saved)
    path.unlink()
    with pytest.raises(UserError, match="YB-C01"):
        load(saved)


def test_tensors_and_back_give_the_same_encoder() -> None:
    encoder = wide_awake(SMALL)
    assert_same(from_stock(to_stock(encoder), SMALL).encoder, encoder)


def test_a_random_encoder_is_drawn_as_bert_was() -> None:
    first, again, other = (random_encoder(SMALL, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert_same(first, again)
    assert not torch.equal(first.word_embedding_weight, other.word_embedding_weight)
    for name, parameter in first.named_parameters():
        values = parameter.detach().numpy()
        if "norm.weight" in name:
            assert (values == 1).all(), name
        elif name.endswith("bias"):
            assert (values == 0).all(), name
        else:
            assert np.isclose(values.std(), 0.02, rtol=0.15), name
    assert isinstance(first, Encoder) and first.dropout == 0.0
