"""Export to ONNX: one graph for all heads that read one sequence, and a small one per head that compares two."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yourbert.core.storage import replacing, write_json
from yourbert.core.tasks import Task
from yourbert.deploy.export.padded import PaddedModel, PairHead
from yourbert.model.multitask import Model

GRAPH = "model.onnx"
QUANTIZED = "The weights of the matrix products and the word embeddings are 8-bit integers:"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def output_of(task: str) -> str:
    return f"scores of {task}"


def vector_of(task: str) -> str:
    return f"vector for {task}"


def write_onnx(folder: Path, model: Model, tasks: Mapping[str, Task]) -> None:
    """Writes model.onnx, <task>.onnx for tasks that encode two texts separately, and tasks.json.

    tasks.json names graph and output of each task, and as "reads" the output of model.onnx that <task>.onnx takes.
    """
    single = [name for name, task in tasks.items() if task.sequences_per_row == 1]
    # Three distinct tensors: inputs that share a tensor in the example would become one input of the graph.
    ids, mask, segments = (torch.full((2, 8), value) for value in (5, 1, 0))
    padded = PaddedModel(model, single)
    outputs = [*map(vector_of, tasks), *map(output_of, single)]
    _write(folder / GRAPH, padded, (ids, mask, segments), INPUTS, outputs, ("batch", "length"))
    vectors = tuple(torch.full((2, model.encoder.config.hidden_size), value) for value in (1.0, 2.0))
    paired = [name for name in tasks if name not in single]
    for name in paired:
        pair = PairHead(model.heads[name])
        _write(folder / f"{name}.onnx", pair, vectors, ("first", "second"), ("scores",), ("batch",))
    about = {
        name: {**task.to_json(), "graph": GRAPH if name in single else f"{name}.onnx",
               "output": output_of(name) if name in single else "scores"}
        | ({} if name in single else {"reads": vector_of(name)})
        for name, task in tasks.items()
    }  # fmt: skip
    write_json(folder / "tasks.json", about)


def _write(
    path: Path,
    module: nn.Module,
    example: tuple[torch.Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    dynamic: tuple[str, ...],
) -> None:
    """Writes one graph. dynamic: names of the leading dimensions, whose size is not fixed."""
    import onnxscript  # noqa: F401 - torch.onnx needs it

    sizes = {axis: torch.export.Dim.DYNAMIC for axis, _ in enumerate(dynamic)}
    with silence_exporters():
        program: Any = torch.onnx.export(
            module.eval(), example, dynamo=True, input_names=list(inputs), output_names=list(outputs),
            dynamic_shapes=tuple(sizes for _ in inputs), verbose=False,
        )  # fmt: skip
    with replacing(path) as part:
        program.save(str(part), external_data=False)


@contextmanager
def silence_exporters() -> Iterator[None]:
    """Hides the exporters' logs and warnings about their internal passes; errors are still raised."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def quantize(path: Path) -> None:
    """Quantizes the weights of matrix products and the word embeddings to 8 bits, in place. Raises UserError (R07)."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with silence_exporters(), replacing(path) as part:
        quantize_dynamic(
            path, part, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm", "Gather"], per_channel=True
        )
