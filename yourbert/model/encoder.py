"""The BERT encoder (Devlin et al. 2019) over packed tokens.

    tokens ─► embeddings ─► L x [attention, add, norm, feed-forward, add, norm] ─► pooling ─► vectors

The linear layers have no padding. Weights are fp32; `Encoder.compute_dtype` is the dtype in which the layers compute.
With bfloat16 each weight is cast once per forward pass, its gradient is fp32, and softmax and layer norms compute in
fp32 internally.

Shapes: T rows of a packed batch (tokens and a few filler rows), S sequences, E hidden width, H heads, D = E / H head
width, F feed-forward width, L layers, V word pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yourbert.core.errors import Problem, UserError, nearest
from yourbert.core.tasks import Pooling
from yourbert.model.attention import Kernel, Layout, Packed, attend
from yourbert.model.dropout import dropout, keep_mask

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
}
# Other names that transformers has for these functions.
ALIASES = {
    "gelu_python": "gelu",
    "gelu_pytorch_tanh": "gelu_new",
    "gelu_python_tanh": "gelu_new",
    "gelu_fast": "gelu_new",
    "gelu_accurate": "gelu_new",
}
# Values of a stock config.json that this encoder supports.
ONLY = {
    "model_type": "bert",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
}

# Required sizes with upper bounds, since memory is allocated before the weights are read.
SIZES = {
    "vocab_size": 10_000_000,
    "hidden_size": 65_536,
    "num_hidden_layers": 1_000,
    "num_attention_heads": 65_536,
    "intermediate_size": 262_144,
    "max_position_embeddings": 1_000_000,
    "type_vocab_size": 1_000,
}


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The shape of a BERT; the fields have their names in config.json of transformers."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0

    @classmethod
    def from_json(cls, stock: Mapping[str, Any], where: str = "config.json") -> EncoderConfig:
        """Reads a config.json; unknown fields are ignored. Raises UserError (C10) for an unsupported model."""
        activation = stock.get("hidden_act")
        if isinstance(activation, str) and activation in ALIASES:
            stock = {**stock, "hidden_act": ALIASES[activation]}
        problems = _config_problems(stock)
        if problems:
            fix = "choose a BERT checkpoint (model_type 'bert')"
            raise UserError([Problem("C10", what, where, fix) for what in problems])
        return cls(**{f.name: stock[f.name] for f in fields(cls) if stock.get(f.name) is not None})

    def to_json(self) -> dict[str, Any]:
        """The fields of config.json that describe the encoder."""
        return {"model_type": "bert", "position_embedding_type": "absolute", **asdict(self)}


def _config_problems(stock: Mapping[str, Any]) -> list[str]:
    """The reasons why this encoder cannot be built from a config.json."""
    found = [f"{k} is {stock[k]!r}; only {v!r} is supported" for k, v in ONLY.items() if stock.get(k, v) != v]
    for name, most in SIZES.items():
        size = stock.get(name)
        if type(size) is not int or not 1 <= size <= most:
            given = "is missing" if size is None else f"is {size!r}"
            found.append(f"{name} {given}; it should be a whole number from 1 to {most}")
    activation = stock.get("hidden_act", "gelu")
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        found.append(f"hidden_act {activation!r} is not supported{nearest(str(activation), ACTIVATIONS)}")
    epsilon, pad = stock.get("layer_norm_eps") or 1e-12, stock.get("pad_token_id") or 0
    if type(epsilon) is not float or not 0 < epsilon < 1:
        found.append(f"layer_norm_eps is {epsilon!r}; it should be a small number above 0")
    if type(pad) is not int or not pad >= 0:
        found.append(f"pad_token_id is {pad!r}; it should be a token id")
    if not found and stock["hidden_size"] % stock["num_attention_heads"]:
        found.append("num_attention_heads does not divide hidden_size")
    return found


class Embeddings(nn.Module):
    """The sum of word piece, position and segment embeddings, with a layer norm."""

    def __init__(self, config: EncoderConfig, p: float) -> None:
        super().__init__()
        self.word = nn.Parameter(torch.empty(config.vocab_size, config.hidden_size))
        self.position = nn.Parameter(torch.empty(config.max_position_embeddings, config.hidden_size))
        self.segment = nn.Parameter(torch.empty(config.type_vocab_size, config.hidden_size))
        self.norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.pad, self.p = config.pad_token_id, p
        self.restriction: RestrictedTable | None = None
        self.fused: FusedEmbeddings | None = None

    def restricted(self, token_ids: npt.NDArray[np.integer[Any]]) -> RestrictedTable:
        """A context manager in which the table has only the rows of these token ids and [PAD]."""
        return RestrictedTable(self, token_ids)

    def rows_of(self, tokens_T: Tensor) -> tuple[Tensor, int]:
        """The rows of `word` for these token ids, and that of [PAD]."""
        if self.restriction is None:
            return tokens_T, self.pad
        return self.restriction.row_of_V.index_select(0, tokens_T), self.restriction.pad_row

    def forward(self, batch: Packed, dtype: torch.dtype, rng: torch.Generator | None) -> Tensor:
        """[T, E] in `dtype`; sum and norm are computed in fp32. As in transformers, [PAD] has no gradient."""
        if self.fused and self.training:
            return self.fused(batch, dtype, rng)
        rows_T, pad = self.rows_of(batch.tokens_T)
        x_TE = F.embedding(rows_T, self.word, pad)
        x_TE = x_TE + F.embedding(batch.positions_T, self.position)
        x_TE = x_TE + F.embedding(batch.segments_T, self.segment)
        return dropout(self.norm(x_TE).to(dtype), self.p if self.training else 0.0, rng)


class RestrictedTable:
    """Within the `with` block `word` has only the rows of some of the V word pieces; afterwards it has all again.

    The word table is half of a small model, and a task uses a part of it. A row that no batch reads has no gradient and
    no moments, so an optimizer only applies weight decay to it. The U rows in use are trained as a smaller table, on
    which an optimizer step takes a fraction of the time. At the end of the block the other rows are multiplied by
    `decay`, which is set within it. If the block raises, the trained rows are kept as well. A frozen table is not
    restricted.
    """

    def __init__(self, embeddings: Embeddings, token_ids: npt.NDArray[np.integer[Any]]) -> None:
        self.embeddings, self.decay = embeddings, 1.0
        self.used = np.union1d(token_ids, [embeddings.pad]).astype(np.int64)

    def __enter__(self) -> RestrictedTable:
        table = self.embeddings
        assert table.restriction is None, "restricted already"
        if table.word.requires_grad:
            self.used_U = torch.from_numpy(self.used).to(table.word.device)
            self.whole_VE = table.word.detach()
            self.row_of_V = torch.full((len(table.word),), -1, device=table.word.device)
            self.row_of_V[self.used_U] = torch.arange(len(self.used_U), device=table.word.device)
            self.pad_row = int(np.searchsorted(self.used, table.pad))
            table.word, table.restriction = nn.Parameter(self.whole_VE[self.used_U]), self
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        table = self.embeddings
        if table.restriction is self:
            self.whole_VE.mul_(self.decay)[self.used_U] = table.word.detach()
            table.word, table.restriction = nn.Parameter(self.whole_VE), None


class FusedEmbeddings(Protocol):
    """The training pass of the embeddings as fused kernels (`yourbert/training/fused`)."""

    def __call__(self, batch: Packed, dtype: torch.dtype, rng: torch.Generator | None) -> Tensor: ...


class Fused(Protocol):
    """The training pass of a layer as fused kernels (`yourbert/training/fused`)."""

    def __call__(self, x_TE: Tensor, layout: Layout, rng: torch.Generator | None, rows_S: Tensor | None) -> Tensor: ...


class Layer(nn.Module):
    """Attention and feed-forward, each followed by dropout, the residual connection and a layer norm."""

    def __init__(self, config: EncoderConfig, p: float) -> None:
        super().__init__()
        width, wide = config.hidden_size, config.intermediate_size
        self.qkv = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, config.layer_norm_eps)
        self.intermediate = nn.Linear(width, wide)
        self.output = nn.Linear(wide, width)
        self.output_norm = nn.LayerNorm(width, config.layer_norm_eps)
        self.activation = ACTIVATIONS[config.hidden_act]
        self.heads, self.p = config.num_attention_heads, p
        self.fused: Fused | None = None

    def forward(
        self,
        x_TE: Tensor,
        layout: Layout,
        rng: torch.Generator | None,
        kernel: Kernel = "auto",
        rows_S: Tensor | None = None,
    ) -> Tensor:
        """[T, E] -> [T, E]; with `rows_S`, only those rows are computed after the attention: [S, E]."""
        if self.fused and self.training:
            return self.fused(x_TE, layout, rng, rows_S)
        p = self.p if self.training else 0.0
        context_TE = attend(project(x_TE, self.qkv), layout, self.heads, p, rng, kernel)
        if rows_S is not None:
            x_TE, context_TE = x_TE.index_select(0, rows_S), context_TE.index_select(0, rows_S)
        x_TE = add_norm(x_TE, project(context_TE, self.attention_out), self.attention_norm, p, rng)
        wide_TF = self.activation(project(x_TE, self.intermediate))
        return add_norm(x_TE, project(wide_TF, self.output), self.output_norm, p, rng)


def project(x_TI: Tensor, linear: nn.Linear) -> Tensor:
    """A linear layer computed in the dtype of x."""
    return F.linear(x_TI, linear.weight.to(x_TI.dtype), linear.bias.to(x_TI.dtype))


def add_norm(x_TE: Tensor, y_TE: Tensor, norm: nn.LayerNorm, p: float, rng: torch.Generator | None) -> Tensor:
    """norm(x + dropout(y)); statistics in fp32."""
    if p > 0:
        assert rng is not None, "dropout draws from a generator"
        keep_TE, factor = keep_mask(y_TE.shape, p, y_TE, rng)
        sum_TE = torch.addcmul(x_TE, y_TE, keep_TE, value=factor)
    else:
        sum_TE = x_TE + y_TE
    # On a GPU the weights must have the dtype of the input; on a CPU fp32 weights work with any input.
    dtype = sum_TE.dtype if sum_TE.is_cuda else torch.float32
    return F.layer_norm(sum_TE, norm.normalized_shape, norm.weight.to(dtype), norm.bias.to(dtype), norm.eps)


class Encoder(nn.Module):
    """BERT: from packed tokens to a hidden vector per token, and to a pooled vector per sequence.

    dropout: the probability in training mode; every draw comes from the generator that is passed to the call.
    """

    def __init__(self, config: EncoderConfig, dropout: float) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = torch.float32
        self.kernel: Kernel = "auto"
        self.dropout = dropout
        self.embeddings = Embeddings(config, dropout)
        self.layers = nn.ModuleList(Layer(config, dropout) for _ in range(config.num_hidden_layers))
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size)

    @property
    def word_embedding_weight(self) -> Tensor:
        """[V, E], fp32."""
        return self.embeddings.word

    def freeze_pooler(self) -> None:
        """Freezes the pooler, for training without pooled vectors."""
        self.pooler.requires_grad_(False)

    def embed(self, batch: Packed, rng: torch.Generator | None) -> Tensor:
        """embedded_TE, the input of the layers, in `compute_dtype`."""
        embedded_TE: Tensor = self.embeddings(batch, self.compute_dtype, rng)
        return embedded_TE

    def forward(self, batch: Packed, rng: torch.Generator | None, embedded_TE: Tensor | None = None) -> Tensor:
        """hidden_TE in `compute_dtype`, with filler rows. embedded_TE: the input to use instead of the embeddings."""
        x_TE = self.embed(batch, rng) if embedded_TE is None else embedded_TE
        for layer in self.layers:
            x_TE = layer(x_TE, batch.layout, rng, self.kernel)
        return x_TE

    def pool_cls(self, hidden_TE: Tensor, batch: Packed) -> Tensor:
        """tanh(dense(first token)) of each sequence, [S, E] in fp32, as in next-sentence prediction."""
        return self._pool_first(hidden_TE.index_select(0, batch.layout.starts_S))

    def pool_mean(self, hidden_TE: Tensor, batch: Packed) -> Tensor:
        """The mean over all tokens of each sequence, special tokens included, [S, E] in fp32."""
        layout = batch.layout
        sums_SE = torch.zeros(layout.sequences, hidden_TE.shape[1], device=hidden_TE.device)
        sums_SE = sums_SE.index_add(0, layout.sequence_T, hidden_TE[: layout.tokens].float())
        return sums_SE / layout.lengths_S[:, None]

    def pooled(
        self, batch: Packed, rng: torch.Generator | None, pooling: Pooling, embedded_TE: Tensor | None = None
    ) -> Tensor:
        """The pooled vector of each sequence, [S, E] in fp32.

        For "cls" the last layer computes only first tokens after its attention, because no other result is used. This
        saves three quarters of the work of that layer.
        """
        if pooling == "mean":
            return self.pool_mean(self(batch, rng, embedded_TE), batch)
        x_TE = self.embed(batch, rng) if embedded_TE is None else embedded_TE
        for layer in self.layers[:-1]:
            x_TE = layer(x_TE, batch.layout, rng, self.kernel)
        return self._pool_first(self.layers[-1](x_TE, batch.layout, rng, self.kernel, batch.layout.starts_S))

    def _pool_first(self, first_SE: Tensor) -> Tensor:
        return torch.tanh(self.pooler(first_SE.float()))


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Initializes a module as in BERT: weights normal(0, 0.02), biases 0, norms the identity."""
    with torch.no_grad():
        for part in module.modules():
            for name, parameter in part.named_parameters(recurse=False):
                if name == "bias":
                    parameter.zero_()
                elif isinstance(part, nn.LayerNorm):
                    parameter.fill_(1)
                else:
                    parameter.normal_(0, 0.02, generator=generator)
