"""One ONNX graph for all heads that read one sequence, and a small one for each that compares two."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yourbert.core.storage import write_json
from yourbert.core.tasks import Task
from yourbert.deploy.export.padded import OfPairs, Padded
from yourbert.model.multitask import Model

GRAPH = "model.onnx"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def output_of(task: str) -> str:
    return f"scores of {task}"


def vector_of(task: str) -> str:
    return f"vector for {task}"


def write_onnx(folder: Path, model: Model, tasks: Mapping[str, Task]) -> None:
    """Writes model.onnx, <task>.onnx for tasks whose texts are read apart, and tasks.json, which says what is what.

    Of two texts read apart the graph takes the vector that stands there as "reads".
    """
    single = [name for name, task in tasks.items() if task.sequences_per_row == 1]
    # No tensor twice: two inputs that are one in the example are one in the graph.
    ids, mask, segments = (torch.full((2, 8), value) for value in (5, 1, 0))
    whole = Padded(model, single)
    named = [*map(vector_of, tasks), *map(output_of, single)]
    _write(folder / GRAPH, whole, (ids, mask, segments), INPUTS, named, ("batch", "length"))
    vectors = tuple(torch.full((2, model.encoder.config.hidden_size), value) for value in (1.0, 2.0))
    paired = [name for name in tasks if name not in single]
    for name in paired:
        pair = OfPairs(model.heads[name])
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
    free: tuple[str, ...],
) -> None:
    """free: the names of the leading dimensions that may be of any size."""
    import onnxscript  # noqa: F401 - torch.onnx writes with it

    sizes = {place: torch.export.Dim.DYNAMIC for place, _ in enumerate(free)}
    with quiet():
        program: Any = torch.onnx.export(
            module.eval(), example, dynamo=True, input_names=list(inputs), output_names=list(outputs),
            dynamic_shapes=tuple(sizes for _ in inputs), verbose=False,
        )  # fmt: skip
    program.save(str(path), external_data=False)


@contextmanager
def quiet() -> Iterator[None]:
    """What the exporters tell of their passes is for their authors; errors are raised all the same."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def quantize(path: Path) -> None:
    """Puts the weights of products into 8-bit numbers; the table of word pieces stays as it is."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = path.with_name("whole.onnx")
    path.rename(whole)
    with quiet():
        quantize_dynamic(
            whole, path, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True
        )
    whole.unlink()
