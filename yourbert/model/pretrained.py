"""Loads and saves BERT checkpoints of transformers (config.json and model.safetensors), strict in both directions.

Loading: every tensor of a checkpoint must be used, except for a few known extras, and every weight must be in the
checkpoint, except for the pooler. Otherwise the checkpoint is refused. Saving: transformers loads what is written
without a missing or unexpected key. "Stock" names below are those of transformers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from yourbert.core.errors import cleaned, fail
from yourbert.core.storage import MANIFEST, check_manifest, read_json, read_tensors, write_json, write_tensors
from yourbert.model.encoder import Encoder, EncoderConfig, initialise
from yourbert.model.heads import MlmHead

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"
HEADS = "heads."  # the prefix of tensors that belong to the heads of tasks
SHOWN_TENSORS = 5
FLOATS = (torch.float32, torch.float16, torch.bfloat16)

PREFIX = "bert."
# Constants, and the next-sentence head of pretraining, which is not used.
IGNORED = (
    "embeddings.position_ids",
    "embeddings.token_type_ids",
    "cls.seq_relationship.weight",
    "cls.seq_relationship.bias",
)
OWN_MODULES = ("embeddings", "encoder", "pooler", "cls")  # the first part of a name without `PREFIX`
POOLER = ("pooler.dense.weight", "pooler.dense.bias")
MLM = "cls.predictions."
DECODER, DECODER_BIAS = "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"
WORDS, MLM_BIAS = "embeddings.word_embeddings.weight", "cls.predictions.bias"

EMBEDDING_NAMES = {
    "word": "word_embeddings.weight",
    "position": "position_embeddings.weight",
    "segment": "token_type_embeddings.weight",
    "norm": "LayerNorm",
}
# Where several stock modules are one module here, they are stacked along the output rows.
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
    """An encoder in fp32, the checkpoint's masked-LM head if it has one, and notes for the user.

    heads: for a model folder, the tensors of its heads by their names in `Model.heads`; empty for other checkpoints.
    """

    encoder: Encoder
    mlm_head: MlmHead | None
    notes: tuple[str, ...]
    heads: Mapping[str, Tensor]

    @property
    def task_specific_layers(self) -> dict[str, int]:
        """The number of task-specific layers of each task in `heads` that has any."""
        parts = [name.split(".") for name in self.heads]
        return dict(Counter(task for task, number in {(p[0], p[2]) for p in parts if p[1] == "layers"}))


def load_encoder(folder: Path, dropout: float, generator: torch.Generator) -> LoadedEncoder:
    """Loads a checkpoint folder. A missing pooler is initialized from `generator`, which `notes` says.

    Raises UserError: C01 (a file is missing or not readable), C03 (tensors do not fit), C04 (only pickled weights), C07
    (weights that are not finite), C10 (not a BERT).
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


def encoder_tensors(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a stranger's checkpoint without the heads that are not used, and a note about each head left out.

    These are heads of other tasks, which are beside the encoder, and a masked-LM head with a decoder of its own.
    """
    foreign: dict[str, list[str]] = {}
    for name, tensor in tensors.items():
        if (module := _module(name)) not in OWN_MODULES:
            foreign.setdefault(module, []).append(f"{cleaned(name)} {_shape(tensor)}")
    notes = [f"the head of another task is left out: {_some(names)}" for names in foreign.values()]
    kept = {name: tensor for name, tensor in tensors.items() if _module(name) in OWN_MODULES}
    if _has_own_decoder({_plain_name(name): tensor for name, tensor in kept.items()}):
        kept = {name: tensor for name, tensor in kept.items() if not name.startswith(MLM)}
        own = "the masked-LM head is left out, as its decoder is not tied to the embeddings"
        notes.append(f"{own}; `pretrain`, if enabled, starts with a new one")
    return kept, notes


def load_tensors(tensors: Mapping[str, Tensor], config: EncoderConfig, where: str) -> LoadedEncoder:
    """As `load_encoder`, from tensors. Raises UserError (C03, C07) unless they fit."""
    return _load(tensors, config, 0.0, torch.Generator(), where)


def save_encoder(folder: Path, encoder: Encoder, mlm_head: MlmHead | None) -> None:
    """Writes a checkpoint folder: a `BertModel`, or with a masked-LM head a `BertForMaskedLM`."""
    tensors, architecture = to_stock(encoder), "BertModel"
    if mlm_head is not None:
        ours = dict(mlm_head.named_parameters())
        tensors = {PREFIX + name: t for name, t in tensors.items()}
        tensors |= {stock: ours[name].detach() for name, stock in MLM_NAMES.items()}
        architecture = "BertForMaskedLM"
    write_tensors(folder / WEIGHTS_FILE, tensors, {"format": "pt"})
    write_json(folder / CONFIG_FILE, {"architectures": [architecture], **encoder.config.to_json()})


def to_stock(encoder: Encoder) -> dict[str, Tensor]:
    """The encoder's weights by their stock names without prefix; views, not copies."""
    stock: dict[str, Tensor] = {}
    for name, parameter in encoder.named_parameters():
        parts = _stock_names(name)
        stock.update(zip(parts, parameter.detach().chunk(len(parts)), strict=True))
    return stock


def from_stock(tensors: Mapping[str, Tensor], config: EncoderConfig, dropout: float = 0.0) -> LoadedEncoder:
    """The inverse of `to_stock`. Raises UserError (C03, C07) unless all tensors fit."""
    return _load(tensors, config, dropout, None, WEIGHTS_FILE)


def random_encoder(config: EncoderConfig, generator: torch.Generator, dropout: float = 0.0) -> Encoder:
    """A randomly initialized encoder; see `initialise`."""
    encoder = Encoder(config, dropout)
    initialise(encoder, generator)
    return encoder


def _stock_names(name: str) -> list[str]:
    """The stock names of a parameter: "layers.0.qkv.bias" -> the biases of query, key and value."""
    area, *path = name.split(".")
    if area == "pooler":
        return [f"pooler.dense.{path[0]}"]
    if area == "embeddings":
        return [".".join(["embeddings", EMBEDDING_NAMES[path[0]], *path[1:]])]
    number, module, kind = path
    return [f"encoder.layer.{number}.{stock}.{kind}" for stock in LAYER_NAMES[module]]


def _module(name: str) -> str:
    """The outermost module of a stock name: "classifier.bias" -> "classifier"."""
    return name.removeprefix(PREFIX).partition(".")[0]


def _plain_name(name: str) -> str:
    """A stock name without prefix, with the current names of the layer norm weights."""
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
        fail("C03", "some tensors occur twice, with and without the prefix 'bert.'", where=where)
    for name in IGNORED:
        given.pop(name, None)
    with torch.device("meta"):  # without memory, as config.json may describe a model far larger than the weights
        expected = to_stock(Encoder(config, dropout))
    notes = []
    has_pooler = generator is None or any(name in given for name in POOLER)
    wanted = {name: tensor for name, tensor in expected.items() if has_pooler or name not in POOLER}
    _check({name: tensor for name, tensor in given.items() if not name.startswith(MLM)}, wanted, where)
    encoder = Encoder(config, dropout)
    if generator is not None and not has_pooler:
        initialise(encoder.pooler, generator)
        notes.append("the checkpoint has no pooler; it is initialized randomly")
    mlm_head = _mlm_head(given, config, where)
    head = _head_targets(mlm_head)
    _check({name: tensor for name, tensor in given.items() if name.startswith(MLM)}, head, where)
    with torch.no_grad():
        for name, target in (to_stock(encoder) | head).items():
            if name in given:
                target.copy_(given[name])
    return LoadedEncoder(encoder, mlm_head, tuple(notes), heads)


def _mlm_head(given: dict[str, Tensor], config: EncoderConfig, where: str) -> MlmHead | None:
    """A head to load into, if the checkpoint has one. Removes the tied decoder from `given`."""
    if _has_own_decoder(given):
        what = "the masked-LM decoder is not tied: its weight or bias differs from the embeddings or their bias"
        fail("C03", what, where=where)
    given.pop(DECODER, None)
    if (bias := given.pop(DECODER_BIAS, None)) is not None:
        given.setdefault(MLM_BIAS, bias)
    if not any(name in given for name in MLM_NAMES.values()):
        return None
    return MlmHead(config, torch.Generator())


def _has_own_decoder(given: Mapping[str, Tensor]) -> bool:
    """Whether weight or bias of the masked-LM decoder differ from the word embeddings, or from the head's bias."""
    pairs = ((DECODER, WORDS), (DECODER_BIAS, MLM_BIAS))
    return any(a in given and b in given and not torch.equal(given[a], given[b]) for a, b in pairs)


def _head_targets(head: MlmHead | None) -> dict[str, Tensor]:
    """Stock name -> the parameter of a masked-LM head that it is copied to."""
    ours = {} if head is None else dict(head.named_parameters())
    return {stock: ours[name].detach() for name, stock in MLM_NAMES.items() if ours}


def _check(given: Mapping[str, Tensor], targets: Mapping[str, Tensor], where: str) -> None:
    """Raises UserError (C03, C07) unless the names, shapes and types are as expected and all values finite."""
    wrong = [f"{name} {_shape(t)} is missing" for name, t in targets.items() if name not in given]
    wrong += [f"{name} {_shape(t)} is unexpected" for name, t in given.items() if name not in targets]
    for name in given.keys() & targets.keys():
        got, wanted = given[name], targets[name]
        if got.shape != wanted.shape or got.dtype not in FLOATS:
            wrong.append(f"{name} is {_shape(got)}, not {_shape(wanted)}")
    if wrong:
        fix = "use a checkpoint of the encoder alone, without the head of another task"
        count = f"{len(wrong)} tensor{'s do' if len(wrong) > 1 else ' does'} not match config.json"
        fail("C03", f"{count}: {_some(wrong)}", where=where, fix=fix)
    broken = [name for name in targets if not math.isfinite(given[name].float().sum())]
    broken = [name for name in broken if not torch.isfinite(given[name]).all()]
    if broken:
        what = f"weights are NaN or infinite: {_some(broken)}"
        fail("C07", what, where=where, fix="download it again")


def _shape(tensor: Tensor) -> str:
    kind = "" if tensor.dtype in FLOATS else f" of {str(tensor.dtype).removeprefix('torch.')}"
    return f"{list(tensor.shape)}{kind}"


def _some(items: list[str]) -> str:
    more = len(items) - SHOWN_TENSORS
    return "; ".join(sorted(items)[:SHOWN_TENSORS]) + (f"; and {more} more" if more > 0 else "")
