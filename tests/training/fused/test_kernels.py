"""The Triton kernels compute what the reference says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.gpu import on_a_gpu
from tests.training.fused.conftest import kept_by_hash, layer_of
from yourbert.training.fused.fusion import check, weights_of
from yourbert.training.fused.interface import DropoutSeed


@on_a_gpu
@pytest.mark.parametrize(("width", "heads", "longest"), [(32, 2, 16), (384, 12, 64), (768, 12, 64), (768, 12, 200)])
def test_triton_computes_what_the_reference_says(width: int, heads: int, longest: int) -> None:
    from yourbert.training.fused import kernels

    layer = layer_of(width, 4 * width, heads).cuda()
    check(layer, weights_of([layer], kernels, torch.bfloat16)[0], longest, dropped=0)
    seeds = torch.randint(2**62, (3,), device="cuda")
    zeros_TE, ones_E = torch.zeros(1000, width, device="cuda", dtype=torch.bfloat16), torch.ones(width, device="cuda")
    draw = DropoutSeed(seeds, 1, 6554, 65536 / (65536 - 6554))
    _, sum_TE, stats_T2 = kernels.add_norm(zeros_TE, zeros_TE, ones_E, ones_E, ones_E, 1e-12, draw)
    keep = kept_by_hash(int(seeds[1]), sum_TE.numel(), 6554).reshape(sum_TE.shape)
    np.testing.assert_array_equal((sum_TE != 0).cpu().numpy(), keep)
    parts_P3E = ones_E.new_empty(500, 3 * width)
    _, dy_TE = kernels.add_norm_backward(torch.randn_like(zeros_TE), sum_TE, stats_T2, ones_E, draw, parts_P3E)
    assert not dy_TE.float().cpu().numpy()[~keep].any(), "the backward drops what the forward dropped"
