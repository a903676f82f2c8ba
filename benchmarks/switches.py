"""Each trick that makes training fast on a CPU, and how to do without it: for the ladder and for its proof.

    with off("bf16", "attention"): ...

Off means the plain way that PyTorch offers, put in the place of the library's function wherever that was imported. The
library itself knows nothing of this. Not here: packing, whose counterpart is another model (`benchmarks.peers.plain`),
and `precision`, which is a parameter.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yourbert.core.tasks import Pooling
from yourbert.model import attention, dropout
from yourbert.model.attention import Kernel, Layout, Packed
from yourbert.model.encoder import Embeddings, Encoder
from yourbert.runtime import machine
from yourbert.training import optimizer
from yourbert.training.fused import fusion
from yourbert.training.optimizer import FusedWeights, adamw


@contextmanager
def off(*names: str) -> Iterator[None]:
    """Without these tricks until the end of the block; onednn and memory must be off before `machine.prepare`."""
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(SWITCHES[name]())
        yield


@contextmanager
def _instead(*pairs: tuple[Any, Any]) -> Iterator[None]:
    """Every module of ours that holds the first of a pair holds the second."""
    places = [
        (module, name, old, new)
        for module in [m for n, m in sys.modules.items() if n.partition(".")[0] in ("yourbert", "benchmarks")]
        for name, value in list(vars(module).items())
        for old, new in pairs
        if value is old and module is not sys.modules[__name__]
    ]
    for module, name, _, new in places:
        setattr(module, name, new)
    try:
        yield
    finally:
        for module, name, old, _ in places:
            setattr(module, name, old)


@contextmanager
def changed(owner: Any, **values: Any) -> Iterator[None]:
    """Attributes of a class or module, changed and put back."""
    before = {name: getattr(owner, name) for name in values}
    for name, value in values.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


def padded_attention(
    qkv_T3E: Tensor,
    layout: Layout,
    heads: int,
    p: float = 0.0,
    rng: torch.Generator | None = None,
    kernel: Kernel = "auto",
) -> Tensor:
    """PyTorch's own attention, over a batch padded to its longest sequence.

    Its dropout knows the default generator only, which is set from `rng`.
    """
    if p > 0:
        assert rng is not None, "dropout draws from a generator"
        torch.manual_seed(int(torch.randint(2**62, (), generator=rng)))
    lengths = [end - start for start, end in pairwise(layout.offsets)]
    qkv_SL3E = nn.utils.rnn.pad_sequence(list(torch.split(qkv_T3E[: layout.tokens], lengths)), batch_first=True)
    q_SHLD, k_SHLD, v_SHLD = qkv_SL3E.view(*qkv_SL3E.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4).unbind()
    real_SL = torch.arange(layout.longest) < layout.lengths_S[:, None]
    context_SHLD = F.scaled_dot_product_attention(q_SHLD, k_SHLD, v_SHLD, real_SL[:, None, None], p)
    context_SLE = context_SHLD.transpose(1, 2).flatten(2)
    context_TE = torch.cat([one_LE[:length] for one_LE, length in zip(context_SLE, lengths, strict=True)])
    return F.pad(context_TE, (0, 0, 0, layout.rows - layout.tokens))


def bernoulli_mask(shape: Sequence[int], p: float, like: Tensor, rng: torch.Generator) -> tuple[Tensor, float]:
    """A draw for each element, as in `torch.nn.functional.dropout`."""
    return torch.empty(tuple(shape), dtype=like.dtype).bernoulli_(1 - p, generator=rng), 1 / (1 - p)


def plain_adamw(parameters: Iterable[nn.Parameter], weight_decay: float) -> torch.optim.AdamW:
    """The library's, with the loop over weights."""
    optimizer = adamw(parameters, weight_decay)
    for group in optimizer.param_groups:
        group |= {"fused": False, "foreach": False}
    return optimizer


def plain_move(
    optimizer: torch.optim.AdamW,
    parameters: Iterable[nn.Parameter],
    clip: float,
    stopped: Tensor | None = None,
    fusion: FusedWeights | None = None,
) -> Tensor:
    """Gradients rewritten, then the step; for layers that are not fused."""
    norm = nn.utils.clip_grad_norm_(parameters, clip or math.inf)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm


def _pooled_of_all(
    self: Encoder,
    batch: Packed,
    rng: torch.Generator | None,
    pooling: Pooling,
    embedded_TE: Tensor | None = None,
) -> Tensor:
    hidden_TE = self(batch, rng, embedded_TE)
    return self.pool_mean(hidden_TE, batch) if pooling == "mean" else self.pool_cls(hidden_TE, batch)


def _nothing(*_: Any) -> None:
    return None


# What each trick is stands in docs/performance.md, "What each trick gives".
SWITCHES: dict[str, Callable[[], Any]] = {
    "onednn": lambda: _instead((machine._route_matmul, _nothing)),
    "fused": lambda: _instead((fusion.fuse, _nothing)),
    "memory": lambda: _instead((machine._keep_memory, _nothing)),
    "used-pieces": lambda: changed(Embeddings, restricted=lambda *_: nullcontext(SimpleNamespace())),
    "attention": lambda: _instead((attention.attend, padded_attention)),
    "dropout": lambda: _instead((dropout.keep_mask, bernoulli_mask)),
    "optimizer": lambda: _instead((optimizer.adamw, plain_adamw), (optimizer.optimizer_step, plain_move)),
    "first-token": lambda: changed(Encoder, pooled=_pooled_of_all),
    "round-shapes": lambda: changed(attention, ROW_STEP=1, WIDTH_STEP=1),
}
