"""The values of params.yaml that the encoder limits: numbers of tokens and numbers of layers.

`check` writes them into its plan, and `download` compares them with the model, before a later stage replaces anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from yourbert.config.schema import Mixture, Params
from yourbert.core.errors import Problem, UserError
from yourbert.core.storage import read_json

TOKENS = ".max_length"  # how the keys end whose values count tokens; the others count layers


def limits_of(params: Params) -> dict[str, int]:
    """Dotted key of params.yaml -> its value, for all keys that the encoder limits."""
    limits = {f"tasks.{name}.data{TOKENS}": task.data.max_length for name, task in params.tasks.items()}
    if params.pretrain.enabled:
        limits[f"pretrain{TOKENS}"] = params.pretrain.max_length
    for name, mixture in params.multitask.items():
        limits |= layers_of(name, mixture)
    return limits


def layers_of(name: str, mixture: Mixture) -> dict[str, int]:
    """The part of `limits_of` for the task-specific layers of one model."""
    layers = mixture.task_specific_layers.items()
    return {f"{name}.task_specific_layers.{task}": number for task, number in layers if number != "all"}


def check_limits(limits: Mapping[str, int], encoder: Path) -> None:
    """Raises one UserError (P08: tokens, P05: layers) for all values that are too large for an encoder folder."""
    config = read_json(encoder / "config.json")
    positions, layers = config.get("max_position_embeddings", 512), config.get("num_hidden_layers", 12)
    problems = []
    for key, value in limits.items():
        if key.endswith(TOKENS) and value > positions:
            what = f"{key} is {value}; the model in {encoder} reads at most {positions} tokens"
            problems.append(Problem("P08", what, "params.yaml", f"set it to {positions} or less"))
        elif not key.endswith(TOKENS) and value > layers:
            what = f"{key} is {value}; the model in {encoder} has {layers} layer{'s' * (layers != 1)}"
            problems.append(Problem("P05", what, "params.yaml", f"write at most {layers}, or `all`"))
    if problems:
        raise UserError(problems)
