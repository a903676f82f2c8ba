"""Which layers of a model are fused for a training, and the optimizer that moves what they learn.

Tried at the start on the model's own first layer: where the fused one fails or differs from the plain one, all layers
stay plain, with the reason in one line of the log.

Shapes: L fused layers, with four matrices each.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn

from yourbert.attention import Layout
from yourbert.encoder import ACTIVATIONS, Layer
from yourbert.fused.layer import Kernels
from yourbert.fused.weights import MATRICES, Beside, LayerWeights, Seeds
from yourbert.gpu import reason
from yourbert.optim import AdamW
from yourbert.runtime import Machine

LOGGER = logging.getLogger("yourbert")
# Widths are a multiple of this, and heads at least half of it, a power of two.
WIDTH_STEP = 32
# Most that a fused layer may differ from the plain one, as a share of its norm: bf16 rounds to 0.4%.
TOLERANCE = 0.03


class Fusion:
    """The fused layers of a training: their part of the gradient's norm and of the optimizer's step."""

    def __init__(self, layers: list[LayerWeights], kernels: Kernels, optimizer: AdamW) -> None:
        self.layers, self.kernels, self.beside, self.seeds = layers, kernels, layers[0].beside, layers[0].seeds
        device = layers[0].master_N.device
        self.steps_L4 = torch.zeros(len(layers), len(MATRICES), device=device)
        for layer, steps_4 in zip(layers, self.steps_L4, strict=True):
            layer.follow(optimizer, steps_4)
        (self.group,) = (g for g in optimizer.param_groups if any(p is layers[0].parameters[0] for p in g["params"]))
        self.betas_2 = torch.tensor(self.group["betas"], dtype=torch.float64, device=device)

    def refresh(self) -> None:
        """After the masters were written by somebody else."""
        for layer in self.layers:
            layer.copy_N.copy_(layer.master_N)

    def gradients(self) -> list[Tensor]:
        self.beside.join()
        return [layer.gradient_N for layer in self.layers if layer.learned]

    def move(self, scale: Tensor, stopped: Tensor) -> None:
        learned = [layer.learned for layer in self.layers]
        counted = [self.steps_L4] if all(learned) else [n for n, did in zip(self.steps_L4, learned, strict=True) if did]
        for steps in counted:
            steps += 1 - stopped
        corrections_L2 = (1 - self.betas_2 ** self.steps_L4[:, :1].double()).float()
        group: dict[str, Any] = self.group
        lr = group["lr"] if isinstance(group["lr"], Tensor) else torch.full((), group["lr"], device=scale.device)
        for layer, corrections_2 in zip(self.layers, corrections_L2.unbind(), strict=True):
            if layer.learned:
                self.kernels.adamw(
                    layer.master_N, layer.gradient_N, layer.mean_N, layer.square_N, layer.copy_N, lr, scale, stopped,
                    corrections_2, group["betas"], group["eps"], group["weight_decay"],
                )  # fmt: skip

    def forget(self) -> None:
        self.seeds.forget()
        for layer in self.layers:
            layer.forget()


def fuse(model: nn.Module, optimizer: AdamW, machine: Machine, longest: int) -> Fusion | None:
    """Fuses the layers that learn, for a training whose longest sequence is known; None where that does not work."""
    learning = [part for part in model.modules() if isinstance(part, Layer) and _learns(part)]
    if machine.device.type != "cuda" or machine.dtype != torch.bfloat16 or not learning or not _fits(learning[0]):
        return None
    try:
        from yourbert.fused import kernels

        layers = weights_of(learning, kernels, machine.dtype)
        check(learning[0], layers[0], longest)
    except Exception as error:  # a compiler may fail in any way
        LOGGER.info("no fused layers (%s): operations one by one", reason(error))
        return None
    return attach(learning, layers, kernels, optimizer)


def weights_of(learning: list[Layer], kernels: Kernels, dtype: torch.dtype) -> list[LayerWeights]:
    beside, seeds = Beside(learning[0].qkv.weight.device), Seeds()
    return [LayerWeights(layer, kernels, dtype, beside, seeds) for layer in learning]


def attach(learning: list[Layer], layers: list[LayerWeights], kernels: Kernels, optimizer: AdamW) -> Fusion:
    for layer, fused in zip(learning, layers, strict=True):
        layer.fused = fused
    optimizer.fusion = fusion = Fusion(layers, kernels, optimizer)
    return fusion


def _learns(layer: Layer) -> bool:
    return all(p.requires_grad for p in layer.parameters())


def _fits(layer: Layer) -> bool:
    width, wide = layer.qkv.in_features, layer.wide.out_features
    head = width // layer.heads
    return (
        layer.activation is ACTIVATIONS["gelu"]
        and width % WIDTH_STEP == wide % WIDTH_STEP == 0
        and head >= WIDTH_STEP // 2
        and head & (head - 1) == 0
    )


def check(layer: Layer, fused: LayerWeights, longest: int, dropped: int = 1) -> None:
    """Raises RuntimeError where the fused layer differs from the plain one, forward or backward.

    dropped: elements of 65536; one, so that the very kernels that a training needs are tried, and made.
    """
    device, dtype = fused.copy_N.device, fused.copy_N.dtype
    lengths = [longest, 1, max(1, longest // 2), max(1, longest - 3)]
    layout = Layout.build([sum(lengths[:n]) for n in range(len(lengths) + 1)], sum(lengths) + 3, device)
    rng, shape = torch.Generator().manual_seed(0), (layout.rows, layer.qkv.in_features)
    x_TE, weight_TE = (torch.randn(shape, generator=rng).to(device, dtype) for _ in range(2))
    seeds, training = torch.arange(3, device=device) + 2**40, layer.training
    for rows_S in (None, layout.starts_S):
        found = []
        for whole in (True, False):
            read_TE = x_TE.clone().requires_grad_()
            layer.train(False)
            z_TE = (
                fused.apply(read_TE, layout, seeds, dropped, rows_S) if whole else layer(read_TE, layout, None, rows_S=rows_S)
            )
            read = z_TE if rows_S is not None else z_TE[: layout.tokens]
            (read.float() * weight_TE[: len(read)]).sum().backward()
            fused.beside.join()
            assert read_TE.grad is not None
            gradients = [p.grad for p in vars(fused.vectors).values()]
            gradients += fused.gradients.values() if whole else [p.grad for p in fused.parameters]
            found.append([t.float().clone() for t in (z_TE.detach(), read_TE.grad, *gradients)])
            fused.forget()
            layer.zero_grad(set_to_none=True)
        layer.train(training)
        for got, expected in zip(*found, strict=True):
            apart = float((got - expected).norm() / expected.norm().clamp(min=1e-6))
            if not apart <= TOLERANCE:
                raise RuntimeError(f"a fused layer differs from the plain one by {apart:.2g}")
