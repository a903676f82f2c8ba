"""The model on padded batches, for ONNX: the same weights, plain operations, no packing.

Shapes: B sequences, L the longest, E hidden width, F intermediate width, H heads, D head width, C scores per row.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yourbert.core.tasks import Pooling
from yourbert.model.encoder import Encoder, Layer, add_norm, project
from yourbert.model.heads import Head
from yourbert.model.multitask import Model

MASKED = -1e9  # attention bias of padding


class PaddedModel(nn.Module):
    """Encoder and heads that read one sequence; outputs a vector per task and sequence, and each prediction."""

    def __init__(self, model: Model, single: Sequence[str]) -> None:
        super().__init__()
        self.model, self.single = model, tuple(single)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> tuple[Tensor, ...]:
        """int64 [B, L], mask 1 for a token and 0 for padding -> [B, E] per task, then [B, C] or [B] per head."""
        table = self.model.encoder.embeddings
        x_BLE = F.embedding(input_ids, table.word) + table.position[: input_ids.shape[1]]
        x_BLE = table.norm(x_BLE + F.embedding(token_type_ids, table.segment))
        bias_B11L = (1.0 - attention_mask[:, None, None].to(x_BLE.dtype)) * MASKED
        mask_BL1 = attention_mask[:, :, None].to(x_BLE.dtype)
        # Ids of the layers passed -> their output: tasks share the lower layers, which are computed once.
        outputs: dict[tuple[int, ...], Tensor] = {(): x_BLE}
        vectors = {}
        for task, pooling in self.model.task_pooling.items():
            encoder = self.model.encoder_for(task)
            passed: tuple[int, ...] = ()
            for layer in encoder.layers:
                assert isinstance(layer, Layer)
                before, passed = passed, (*passed, id(layer))
                if passed not in outputs:
                    outputs[passed] = _layer(layer, outputs[before], bias_B11L)
            vectors[task] = _pool(encoder, outputs[passed], pooling, mask_BL1)
        heads = [(self.model.heads[task], vectors[task]) for task in self.single]
        return (*vectors.values(), *(head.predict(head(pooled_BE, None)) for head, pooled_BE in heads))


def _pool(encoder: Encoder, x_BLE: Tensor, pooling: Pooling, mask_BL1: Tensor) -> Tensor:
    if pooling == "cls":
        return torch.tanh(encoder.pooler(x_BLE[:, 0]))
    return (x_BLE * mask_BL1).sum(1) / mask_BL1.sum(1)


def _layer(layer: Layer, x_BLE: Tensor, bias_B11L: Tensor) -> Tensor:
    batch, length, width = x_BLE.shape
    qkv_BLE = project(x_BLE, layer.qkv)
    q_BHLD, k_BHLD, v_BHLD = qkv_BLE.reshape(batch, length, 3, layer.heads, width // layer.heads).permute(2, 0, 3, 1, 4)
    scores_BHLL = q_BHLD @ k_BHLD.transpose(-1, -2) * (width // layer.heads) ** -0.5 + bias_B11L
    context_BLE = (scores_BHLL.softmax(-1) @ v_BHLD).transpose(1, 2).reshape(batch, length, width)
    x_BLE = add_norm(x_BLE, project(context_BLE, layer.attention_out), layer.attention_norm, 0.0, None)
    wide_BLF = layer.activation(project(x_BLE, layer.intermediate))
    return add_norm(x_BLE, project(wide_BLF, layer.output), layer.output_norm, 0.0, None)


class PairHead(nn.Module):
    """A head that compares two vectors."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """The vectors of the first texts, [B, E], and of the second -> [B, C] or [B]."""
        both_SE = torch.stack([first, second], dim=1).reshape(-1, first.shape[1])
        prediction: Tensor = self.head.predict(self.head(both_SE, None))
        return prediction
