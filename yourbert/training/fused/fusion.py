"""Decides which layers of a model are fused for a training, and updates their weights in the optimizer step.

The kernels are tested at the start on the first layer of the model. If the fused layer fails or differs from the plain
one, all layers stay plain, and a log line gives the reason.
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

logger = logging.getLogger("yourbert")
# Widths are a multiple of this, and heads at least half of it, a power of two.
WIDTH_STEP = 32
# The largest relative difference (in norm) between a fused layer and the plain one in fp32: bf16 rounds each number to
# 0.4%, and the gradients of a layer differ by up to 2%.
TOLERANCE = 0.05
# The number of weights from which a table is updated by the AdamW kernel.
LARGE = 1 << 20


class Fusion:
    """The fused weights of a training: their part of the gradient norm and of the optimizer step.

    The word embeddings and other large tables are updated by the same kernel as the layers; PyTorch's AdamW has two
    thirds of its speed on them. Shapes: N parameters, each with a step count; P buffers.
    """

    def __init__(
        self, layers: list[FusedLayer], embeddings: list[EmbeddingWeights], kernels: Kernels, optimizer: AdamW
    ) -> None:
        self.layers, self.kernels, self.seeds = layers, kernels, layers[0].seeds
        self._buffers = [buffer for layer in layers for buffer in (layer.large, layer.small)]
        held = {p for buffer in self._buffers for p in buffer.parameters}
        free = [p for group in optimizer.param_groups for p in group["params"] if p not in held]
        # Tables whose gradients come from autograd, but which the AdamW kernel updates: word pieces and large ones.
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
        """Updates the copies after other code has written the masters."""
        for buffer in self._buffers:
            buffer.sync_from_master()

    def holds(self, p: nn.Parameter) -> bool:
        """Whether a parameter with a gradient from autograd is updated here: a large table."""
        return p in self._tables

    def norm(self) -> Tensor:
        """The norm of the gradients of all weights that are updated here."""
        # A table's gradient comes from autograd. It is taken from the parameter, so that PyTorch's AdamW skips it.
        for buffer in self._tables.values():
            buffer.claim_gradients()
        gradients = [buffer.gradient_N for buffer in self._buffers if buffer.gradient_N is not None]
        return self.kernels.norm(gradients) if gradients else torch.zeros((), device=self.steps_N.device)

    def optimizer_step(self, scale: Tensor, stopped: Tensor) -> None:
        """Updates the weights that have gradients; PyTorch's step, which comes after, skips them."""
        # A weight counts only the steps that update it: task-specific layers are updated only in steps with their task.
        moved = [buffer.gradient_N is not None for buffer in self._buffers]
        counts = [self.steps_N]
        if not all(moved):
            counts = [steps for steps, did in zip(self._steps, moved, strict=True) if did]
        for count in counts:
            count += 1 - stopped
        # 1 - beta ** steps for both moments of all buffers, in fp64: with beta 0.999, fp32 would keep few digits.
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
    """What determines the bytes of a fused training, beside the facts of the machine; for the fingerprint of a run."""
    if machine.device.type != "cpu":
        return {}
    from yourbert.training.fused.compiled import name

    return {"kernels": name(machine.dtype == torch.bfloat16)}


def fuse(model: nn.Module, optimizer: AdamW, machine: Machine, longest: int) -> Fusion | None:
    """Fuses the trainable layers of `model`; changes nothing and returns None where fused layers do not work.

    Afterwards the layers train by kernels. The `data` of their parameters and their state in `optimizer` are views of
    buffers, and the parameters get no `grad`. So every step must be `optimizer_step` with this fusion.
    longest: the number of tokens of the longest training sequence, for the test of the kernels.
    """
    trainable = [part for part in model.modules() if isinstance(part, Layer) and _is_trainable(part)]
    if not trainable or not _fits(trainable[0]) or not _computes(machine):
        return None
    try:
        kernels = _kernels_for(machine)
        layers = weights_of(trainable, kernels, machine.dtype)
        check(trainable[0], layers[0], longest)
        found = [part for part in model.modules() if isinstance(part, Embeddings) and _is_trainable(part)]
        embeddings = [EmbeddingWeights(part, kernels, layers[0].seeds) for part in found if len(part.segment) == 2]
        for own in embeddings:
            check_embeddings(own, machine.dtype, longest)
    except Exception as error:  # a compiler may fail in any way
        logger.info("no fused layers (%s): operations one by one", reason(error))
        # A failed check may have left gradients.
        optimizer.zero_grad(set_to_none=True)
        return None
    return attach(trainable, layers, embeddings, kernels, optimizer)


def weights_of(trainable: list[Layer], kernels: Kernels, dtype: torch.dtype) -> list[FusedLayer]:
    seeds = Seeds()
    return [FusedLayer(layer, kernels, dtype, seeds) for layer in trainable]


def attach(
    trainable: list[Layer],
    layers: list[FusedLayer],
    embeddings: list[EmbeddingWeights],
    kernels: Kernels,
    optimizer: AdamW,
) -> Fusion:
    for layer, fused in zip(trainable, layers, strict=True):
        layer.fused = fused
    for fused_embeddings in embeddings:
        fused_embeddings.embeddings.fused = fused_embeddings
    return Fusion(layers, embeddings, kernels, optimizer)


def _computes(machine: Machine) -> bool:
    """Whether there are kernels for its device and dtype; several ranks need the gradients that autograd leaves."""
    on_gpu = machine.device.type == "cuda" and machine.dtype == torch.bfloat16
    return machine.ranks.world == 1 and (machine.device.type == "cpu" or on_gpu)


def _kernels_for(machine: Machine) -> Kernels:
    if machine.device.type == "cpu":
        from yourbert.training.fused.native import NativeKernels

        return NativeKernels(machine.dtype)
    from yourbert.training.fused import kernels

    return kernels


def _is_trainable(part: nn.Module) -> bool:
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
    """Raises RuntimeError if the fused layer differs from the plain one in fp32, forward or backward.

    dropped: of 65536 elements; 1, so that the kernels with dropout, which training uses, are compiled and tested.
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
    """`check` for the embeddings."""
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
    """A layout of four sequences and three filler rows."""
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
