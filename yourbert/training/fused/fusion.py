"""Which layers of a model are fused for a training, and the optimizer that moves what they learn.

Tried at the start on the model's own first layer: where the fused one fails or differs from the plain one, all layers
stay plain, with the reason in one line of the log.
"""

from __future__ import annotations

import logging
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from yourbert.model.attention import Layout, Packed
from yourbert.model.encoder import ACTIVATIONS, Embeddings, Layer
from yourbert.runtime.gpu import reason
from yourbert.runtime.machine import Machine
from yourbert.training.fused.embeddings import EmbeddingWeights
from yourbert.training.fused.interface import Kernels
from yourbert.training.fused.layer import FusedLayer
from yourbert.training.fused.weights import ParameterBuffer, Seeds
from yourbert.training.optimizer import AdamW

LOGGER = logging.getLogger("yourbert")
# Widths are a multiple of this, and heads at least half of it, a power of two.
WIDTH_STEP = 32
# Most that a result of a fused layer may differ from the plain one's in fp32, as a share of its norm: bf16 rounds each
# number to 0.4%, and a layer's gradients come out up to 2% off.
TOLERANCE = 0.05
# Weights from which a table gets a kernel of its own.
LARGE = 1 << 20


class Fusion:
    """What a training has fused: its part of the gradient's norm and of the optimizer's step.

    The word embeddings, and tables as large, are updated by the same kernel as the layers: PyTorch's own AdamW reaches
    two thirds of its speed on one. Shapes: N parameters, each with a count of its steps; P buffers.
    """

    def __init__(
        self, layers: list[FusedLayer], embeddings: list[EmbeddingWeights], kernels: Kernels, optimizer: AdamW
    ) -> None:
        self.layers, self.kernels, self.seeds = layers, kernels, layers[0].seeds
        self._buffers = [buffer for layer in layers for buffer in (layer.large, layer.small)]
        held = {p for buffer in self._buffers for p in buffer.parameters}
        free = [p for group in optimizer.param_groups for p in group["params"] if p not in held]
        # Tables that autograd gives a gradient, but that are worth a kernel: word pieces, and others as large.
        words = {own.embeddings.word for own in embeddings}
        large = [p for p in free if p in words or (p.numel() >= LARGE and p.shape[-1] % WIDTH_STEP == 0)]
        self._tables = {p: ParameterBuffer([p]) for p in large}
        self._buffers += self._tables.values()
        sizes = [len(buffer.parameters) for buffer in self._buffers]
        self.steps_N = torch.zeros(sum(sizes), device=layers[0].large.master_N.device)
        self._steps = torch.split(self.steps_N, sizes)
        self._first_P = torch.tensor([0, *accumulate(sizes[:-1])], device=self.steps_N.device)
        for buffer, steps in zip(self._buffers, self._steps, strict=True):
            buffer.bind_optimizer(optimizer, steps)
        group_of = {p: group for group in optimizer.param_groups for p in group["params"]}
        self._groups: list[dict[str, Any]] = [group_of[buffer.parameters[0]] for buffer in self._buffers]
        betas = optimizer.param_groups[0]["betas"]
        self.betas_2 = torch.tensor(betas, dtype=torch.float64, device=self.steps_N.device)

    def sync_from_master(self) -> None:
        """After the masters were written by somebody else."""
        for buffer in self._buffers:
            buffer.sync_from_master()

    def holds(self, p: nn.Parameter) -> bool:
        """Whether a gradient that autograd leaves is this one's to move: that of a large table."""
        return p in self._tables

    def norm(self) -> Tensor:
        """Of all the gradients that are this one's to move."""
        # A table's gradient comes from autograd. It is taken from the parameter, so that PyTorch's AdamW passes it by.
        for buffer in self._tables.values():
            buffer.claim_gradients()
        gradients = [buffer.gradient_N for buffer in self._buffers if buffer.gradient_N is not None]
        return self.kernels.norm(gradients) if gradients else torch.zeros((), device=self.steps_N.device)

    def optimizer_step(self, scale: Tensor, stopped: Tensor) -> None:
        """Moves what has a gradient; PyTorch's step, which comes after, sees none of it."""
        # A weight counts the steps that moved it alone: a task's own layers move only when the task is drawn.
        moved = [buffer.gradient_N is not None for buffer in self._buffers]
        counts = [self.steps_N]
        if not all(moved):
            counts = [steps for steps, did in zip(self._steps, moved, strict=True) if did]
        for count in counts:
            count += 1 - stopped
        # 1 - beta ** steps, of both moments and for all buffers at once, in fp64: beta 0.999 leaves few digits in fp32.
        corrections_P2 = (1 - self.betas_2 ** self.steps_N[self._first_P, None].double()).float()
        lr = self._groups[0]["lr"]
        lr = lr if isinstance(lr, Tensor) else torch.full((), lr, device=scale.device)
        for buffer, group, corrections in zip(self._buffers, self._groups, corrections_P2, strict=True):
            if buffer.gradient_N is not None:
                self.kernels.adamw(
                    buffer, lr, scale, stopped, corrections, group["betas"], group["eps"], group["weight_decay"]
                )

    def zero_grad(self) -> None:
        self.seeds.reset()
        for layer in self.layers:
            layer.clear()
        for buffer in self._tables.values():
            buffer.gradient_N = None


def facts(machine: Machine) -> dict[str, str]:
    """What decides the bytes of a fused training, beside the facts of the machine; for the fingerprint of a run."""
    if machine.device.type != "cpu":
        return {}
    from yourbert.training.fused.compiled import name

    return {"kernels": name(machine.dtype == torch.bfloat16)}


def fuse(model: nn.Module, optimizer: AdamW, machine: Machine, longest: int) -> Fusion | None:
    """Takes over the layers of `model` that learn, or nothing and returns None where fused ones do not work.

    From then on each layer computes its training pass by kernels, its parameters' `data` are views of buffers, and so
    is their state in `optimizer`, which sees no gradient of them: whoever steps it must hand the fusion to `move`, too.
    longest: the tokens of the training's longest sequence, for a check of the kernels.
    """
    learning = [part for part in model.modules() if isinstance(part, Layer) and _learns(part)]
    if not learning or not _fits(learning[0]) or not _computes(machine):
        return None
    try:
        kernels = _kernels_for(machine)
        layers = weights_of(learning, kernels, machine.dtype)
        check(learning[0], layers[0], longest)
        found = [part for part in model.modules() if isinstance(part, Embeddings) and _learns(part)]
        embeddings = [EmbeddingWeights(part, kernels, layers[0].seeds) for part in found if len(part.segment) == 2]
        for own in embeddings:
            check_embeddings(own, machine.dtype, longest)
    except Exception as error:  # a compiler may fail in any way
        LOGGER.info("no fused layers (%s): operations one by one", reason(error))
        # A check that broke off may have left some.
        optimizer.zero_grad(set_to_none=True)
        return None
    return attach(learning, layers, embeddings, kernels, optimizer)


def weights_of(learning: list[Layer], kernels: Kernels, dtype: torch.dtype) -> list[FusedLayer]:
    seeds = Seeds()
    return [FusedLayer(layer, kernels, dtype, seeds) for layer in learning]


def attach(
    learning: list[Layer],
    layers: list[FusedLayer],
    embeddings: list[EmbeddingWeights],
    kernels: Kernels,
    optimizer: AdamW,
) -> Fusion:
    for layer, fused in zip(learning, layers, strict=True):
        layer.fused = fused
    for fused_embeddings in embeddings:
        fused_embeddings.embeddings.fused = fused_embeddings
    return Fusion(layers, embeddings, kernels, optimizer)


def _computes(machine: Machine) -> bool:
    """Whether there are kernels for it and its numbers; several ranks sum gradients where autograd leaves them."""
    on_gpu = machine.device.type == "cuda" and machine.dtype == torch.bfloat16
    return machine.ranks.world == 1 and (machine.device.type == "cpu" or on_gpu)


def _kernels_for(machine: Machine) -> Kernels:
    if machine.device.type == "cpu":
        from yourbert.training.fused.native import NativeKernels

        return NativeKernels(machine.dtype)
    from yourbert.training.fused import kernels

    return kernels


def _learns(part: nn.Module) -> bool:
    return all(p.requires_grad for p in part.parameters())


def _fits(layer: Layer) -> bool:
    width, wide = layer.qkv.in_features, layer.intermediate.out_features
    head = width // layer.heads
    return (
        layer.activation is ACTIVATIONS["gelu"]
        and width % WIDTH_STEP == wide % WIDTH_STEP == 0
        and head >= WIDTH_STEP // 2
        and head & (head - 1) == 0
    )


def check(layer: Layer, fused: FusedLayer, longest: int, dropped: int = 1) -> None:
    """Raises RuntimeError where the fused layer differs from the plain one in fp32, forward or backward.

    dropped: elements of 65536; one, so that the very kernels that a training needs are tried, and made.
    """
    device, dtype = fused.large.copy_N.device, fused.large.copy_N.dtype
    layout = _layout(longest, device)
    x_TE, weight_TE = (_noise((layout.rows, layer.qkv.in_features), seed).to(device, dtype) for seed in range(2))
    seeds, training = _noise((3,), 2).to(device).view(torch.int32).long() << 20, layer.training
    layer.train(False)
    for rows_S in (None, layout.starts_S):
        found = []
        for whole in (True, False):
            read_TE = x_TE.to(dtype if whole else torch.float32, copy=True).requires_grad_()
            if whole:
                z_TE = fused.apply(read_TE, layout, seeds, dropped, rows_S)
            else:
                z_TE = layer(read_TE, layout, None, "grouped", rows_S)
            read = z_TE if rows_S is not None else z_TE[: layout.tokens]
            (read.float() * weight_TE[: len(read)]).sum().backward()  # type: ignore[no-untyped-call]
            gradients = [read_TE.grad]
            for buffer in (fused.large, fused.small):
                gradients += buffer.gradients() if whole else [p.grad for p in buffer.parameters]
            found.append([read.detach().clone(), *(_kept(gradient) for gradient in gradients)])
            fused.clear()
            layer.zero_grad(set_to_none=True)
        _compare("layer", *found)
    layer.train(training)


def check_embeddings(fused: EmbeddingWeights, dtype: torch.dtype, longest: int, dropped: int = 1) -> None:
    """The same of the embeddings, whose gradients are compared before they reach the table of word pieces."""
    own = fused.embeddings
    device = own.word.device
    layout = _layout(longest, device)
    offsets = torch.tensor(layout.offsets, device=device)
    tokens_T = torch.full((layout.rows,), own.pad, device=device)
    positions_T = torch.zeros_like(tokens_T)
    positions_T[: layout.tokens] = torch.arange(layout.tokens, device=device) - offsets[layout.sequence_T]
    batch = Packed(tokens_T, (positions_T > longest // 3).long(), positions_T, layout)
    weight_TE = _noise((layout.rows, own.word.shape[1]), 0).to(device)
    weight_TE[layout.tokens :] = 0
    seeds, training = _noise((2,), 1).to(device).view(torch.int32).long() << 20, own.training
    own.train(False)
    found = []
    for whole in (True, False):
        out_TE = fused.apply(batch, dtype, seeds, dropped) if whole else own(batch, torch.float32, None)
        (out_TE.float() * weight_TE).sum().backward()
        found.append([out_TE.detach(), *(_kept(p.grad) for p in own.parameters())])
        own.zero_grad(set_to_none=True)
    own.train(training)
    _compare("embedding", *found)


def _layout(longest: int, device: torch.device) -> Layout:
    """A few sequences, with some filler."""
    lengths = [longest, 1, max(1, longest // 2), max(1, longest - 3)]
    return Layout.build([sum(lengths[:n]) for n in range(len(lengths) + 1)], sum(lengths) + 3, device)


def _noise(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _kept(gradient: Tensor | None) -> Tensor:
    assert gradient is not None, "every weight learns"
    return gradient.to_dense().float().clone()


def _compare(what: str, got: list[Tensor], expected: list[Tensor]) -> None:
    for own, other in zip(got, expected, strict=True):
        apart = float((own.float() - other.float()).norm() / other.float().norm().clamp(min=1e-6))
        if not apart <= TOLERANCE:
            raise RuntimeError(f"a fused {what} differs from the plain one by {apart:.2g}")
