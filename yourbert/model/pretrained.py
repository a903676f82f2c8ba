"""Stock BERT checkpoints (config.json + model.safetensors) to our modules and back, strict both ways.

Every tensor of a checkpoint is used, or is on a short list of known extras, or the checkpoint is refused;
every weight of ours comes from the checkpoint, save a pooler that it lacks. Nothing is half loaded. What is
written under stock names loads in `transformers` without a missing or unexpected key.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from yourbert.core.errors import fail
from yourbert.core.storage import MANIFEST, check_manifest, read_json, read_tensors, write_json, write_tensors
from yourbert.model.encoder import Encoder, EncoderConfig, initialise
from yourbert.model.heads import MlmHead

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"
HEADS = "heads."  # how the names of tensors begin that belong to the heads of tasks
SHOWN_TENSORS = 5
FLOATS = (torch.float32, torch.float16, torch.bfloat16)

PREFIX = "bert."
# Constants and a head of BERT's own pretraining that tailoring does not use.
IGNORED = (
    "embeddings.position_ids",
    "embeddings.token_type_ids",
    "cls.seq_relationship.weight",
    "cls.seq_relationship.bias",
)
POOLER = ("pooler.dense.weight", "pooler.dense.bias")
DECODER, DECODER_BIAS = "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"
WORDS, MLM_BIAS = "embeddings.word_embeddings.weight", "cls.predictions.bias"

EMBEDDING_NAMES = {
    "word": "word_embeddings.weight",
    "position": "position_embeddings.weight",
    "segment": "token_type_embeddings.weight",
    "norm": "LayerNorm",
}
# Several stock modules in one of ours are stacked along the output rows.
LAYER_NAMES = {
    "qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention_out": ("attention.output.dense",),
    "attention_norm": ("attention.output.LayerNorm",),
    "intermediate": ("intermediate.dense",),
    "output": ("output.dense",),
    "output_norm": ("output.LayerNorm",),
}
MLM_NAMES = {
    "dense.weight": "cls.predictions.transform.dense.weight",
    "dense.bias": "cls.predictions.transform.dense.bias",
    "norm.weight": "cls.predictions.transform.LayerNorm.weight",
    "norm.bias": "cls.predictions.transform.LayerNorm.bias",
    "bias": MLM_BIAS,
}


@dataclass(frozen=True, eq=False)
class LoadedEncoder:
    """An encoder in fp32, the checkpoint's masked-LM head where it has one, and what the user should know.

    heads: of the tasks of a model folder of ours, by their names in `Model.heads`; none for a stock checkpoint.
    """

    encoder: Encoder
    mlm_head: MlmHead | None
    notes: tuple[str, ...]
    heads: Mapping[str, Tensor]

    @property
    def task_specific_layers(self) -> dict[str, int]:
        """Of the tasks in `heads` that have last layers for themselves, how many."""
        parts = [name.split(".") for name in self.heads]
        return dict(Counter(task for task, number in {(p[0], p[2]) for p in parts if p[1] == "layers"}))


def load_encoder(folder: Path, dropout: float, generator: torch.Generator) -> LoadedEncoder:
    """Reads a stock checkpoint folder; a pooler that it lacks is drawn from `generator`, and noted.

    Raises UserError: C01 no such file or not readable, C03 tensors that do not fit, C04 weights only as
    pickle, C07 weights that are not numbers, C10 not a BERT.
    """
    path = folder / WEIGHTS_FILE
    if not path.exists() and (unsafe := sorted(folder.glob("*.bin")) + sorted(folder.glob("*.pt"))):
        fix = f"save it again as {WEIGHTS_FILE}, with `save_pretrained` of transformers"
        what = "these weights are a pickle, which can run code and is never opened"
        fail("C04", what, where=str(unsafe[0]), fix=fix)
    if (folder / MANIFEST).exists():
        check_manifest(folder)
    config = EncoderConfig.from_json(read_json(folder / CONFIG_FILE), str(folder / CONFIG_FILE))
    return _load(read_tensors(path), config, dropout, generator, str(path))


def save_encoder(folder: Path, encoder: Encoder, mlm_head: MlmHead | None) -> None:
    """Writes a stock checkpoint folder: a bare BERT, or one under "bert." beside its masked-LM head."""
    tensors, architecture = to_stock(encoder), "BertModel"
    if mlm_head is not None:
        ours = dict(mlm_head.named_parameters())
        tensors = {PREFIX + name: t for name, t in tensors.items()}
        tensors |= {stock: ours[name].detach() for name, stock in MLM_NAMES.items()}
        architecture = "BertForMaskedLM"
    write_tensors(folder / WEIGHTS_FILE, tensors, {"format": "pt"})
    write_json(folder / CONFIG_FILE, {"architectures": [architecture], **encoder.config.to_json()})


def to_stock(encoder: Encoder) -> dict[str, Tensor]:
    """The encoder's weights under their stock names, without prefix; views, not copies."""
    stock: dict[str, Tensor] = {}
    for name, parameter in encoder.named_parameters():
        parts = _stock_names(name)
        stock.update(zip(parts, parameter.detach().chunk(len(parts)), strict=True))
    return stock


def from_stock(tensors: Mapping[str, Tensor], config: EncoderConfig, dropout: float = 0.0) -> LoadedEncoder:
    """The encoder whose `to_stock` these tensors are. Raises UserError (C03, C07) unless all of them fit."""
    return _load(tensors, config, dropout, None, WEIGHTS_FILE)


def random_encoder(config: EncoderConfig, generator: torch.Generator, dropout: float = 0.0) -> Encoder:
    """A fresh encoder: weights normal with deviation 0.02, biases 0, norms the identity."""
    encoder = Encoder(config, dropout)
    initialise(encoder, generator)
    return encoder


def _stock_names(name: str) -> list[str]:
    """Stock names of one of our parameters: "layers.0.qkv.bias" -> the biases of query, key and value."""
    area, *path = name.split(".")
    if area == "pooler":
        return [f"pooler.dense.{path[0]}"]
    if area == "embeddings":
        return [".".join(["embeddings", EMBEDDING_NAMES[path[0]], *path[1:]])]
    number, module, kind = path
    return [f"encoder.layer.{number}.{stock}.{kind}" for stock in LAYER_NAMES[module]]


def _plain_name(name: str) -> str:
    """A stock name without prefix, and with today's names for the norms' weights."""
    plain = name.removeprefix(PREFIX)
    return plain.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _load(
    tensors: Mapping[str, Tensor],
    config: EncoderConfig,
    dropout: float,
    generator: torch.Generator | None,
    where: str,
) -> LoadedEncoder:
    heads = {name.removeprefix(HEADS): t for name, t in tensors.items() if name.startswith(HEADS)}
    given = {_plain_name(name): t for name, t in tensors.items() if not name.startswith(HEADS)}
    if len(given) + len(heads) < len(tensors):
        fail("C03", "some tensors are there twice, with and without the prefix 'bert.'", where=where)
    for name in IGNORED:
        given.pop(name, None)
    notes = []
    encoder = Encoder(config, dropout)
    if generator is not None and not any(name in given for name in POOLER):
        initialise(encoder.pooler, generator)
        given |= zip(POOLER, (encoder.pooler.weight.detach(), encoder.pooler.bias.detach()), strict=True)
        notes.append("the checkpoint has no pooler; a fresh one was drawn")
    mlm_head = _mlm_head(given, config, where)
    targets = _targets(encoder, mlm_head)
    _check(given, targets, where)
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(given[name])
    return LoadedEncoder(encoder, mlm_head, tuple(notes), heads)


def _mlm_head(given: dict[str, Tensor], config: EncoderConfig, where: str) -> MlmHead | None:
    """An empty head when the checkpoint has one. Takes the decoder, which repeats others, out of `given`."""
    bias = given.pop(DECODER_BIAS, None)
    if bias is not None:
        given.setdefault(MLM_BIAS, bias)
    decoder = given.pop(DECODER, None)
    untied = decoder is not None and WORDS in given and not torch.equal(decoder, given[WORDS])
    if untied or (bias is not None and not torch.equal(bias, given[MLM_BIAS])):
        what = "the decoder is not tied: its weight or bias differs from the tensor that it should repeat"
        fail("C03", what, where=where)
    if not any(name in given for name in MLM_NAMES.values()):
        return None
    return MlmHead(config, torch.Generator())


def _targets(encoder: Encoder, mlm_head: MlmHead | None) -> dict[str, Tensor]:
    """Stock name -> the (part of our) parameter that it fills."""
    targets = to_stock(encoder)
    if mlm_head is not None:
        ours = dict(mlm_head.named_parameters())
        targets |= {stock: ours[name].detach() for name, stock in MLM_NAMES.items()}
    return targets


def _check(given: Mapping[str, Tensor], targets: Mapping[str, Tensor], where: str) -> None:
    """Refuses a checkpoint unless its tensors are the wanted ones, in shape and kind, and all finite."""
    wrong = [f"{name} wanted {_shape(t)} got nothing" for name, t in targets.items() if name not in given]
    wrong += [f"{name} wanted nothing got {_shape(t)}" for name, t in given.items() if name not in targets]
    for name in given.keys() & targets.keys():
        got, wanted = given[name], targets[name]
        if got.shape != wanted.shape or got.dtype not in FLOATS:
            wrong.append(f"{name} wanted {_shape(wanted)} got {_shape(got)}")
    if wrong:
        fix = "choose the plain BERT that its config.json describes, without another task's head"
        fail("C03", f"tensors that do not fit, {len(wrong)} in all: {_some(wrong)}", where=where, fix=fix)
    broken = [name for name in targets if not math.isfinite(given[name].float().sum())]
    broken = [name for name in broken if not torch.isfinite(given[name]).all()]
    if broken:
        what = f"weights that are not numbers (NaN or infinite): {_some(broken)}"
        fail("C07", what, where=where, fix="fetch it again")


def _shape(tensor: Tensor) -> str:
    kind = "" if tensor.dtype in FLOATS else f" of {str(tensor.dtype).removeprefix('torch.')}"
    return f"{list(tensor.shape)}{kind}"


def _some(items: list[str]) -> str:
    more = len(items) - SHOWN_TENSORS
    return "; ".join(sorted(items)[:SHOWN_TENSORS]) + (f"; and {more} more" if more > 0 else "")
