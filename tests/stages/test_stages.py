"""Every parameter that reaches a stage's library call is declared to DVC, and no top-level key is declared in vain.

An undeclared one would leave a stage "up to date" after the parameter changed.
"""

from __future__ import annotations

import copy
import importlib
from typing import Any

import pytest
import yaml

from tests.support.closure import ROOT
from tests.support.shipped import WITH_MIXTURE
from yourbert.config.schema import Params, Training

# Stage -> the words of its command line, and the library call it makes.
CALLS = {
    "download": ((), "yourbert.download.download.download"),
    "tokenize": (("sst",), "yourbert.tokens.tokenize_task.tokenize_task"),
    "pretrain": ((), "yourbert.pretraining.pretrain.pretrain"),
    "finetune": (("sst", "11711"), "yourbert.finetuning.finetune.finetune"),
    "multitask": (("pairs", "11711"), "yourbert.finetuning.finetune.finetune"),
    "sequential": (("next", "11711"), "yourbert.finetuning.finetune.finetune"),
    "evaluate": (("sst", "11711"), "yourbert.evaluation.evaluate.evaluate"),
}
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
SHIPPED: dict[str, Any] = yaml.safe_load(WITH_MIXTURE)
SHIPPED["sequential"] = [{"name": "next", "init_from": "pairs", "tasks": ["sts"], "sampling": "proportional"}]
OTHER: dict[str, Any] = {
    "model": "org/other", "corpus": "elsewhere", "freeze_encoder": True, "pooling": "cls", "schedule": "constant",
    "class_weights": "balanced", "device": "cpu", "precision": "fp32", "sampling": "joint",
    "deterministic": True, "curriculum": "difficulty", "regularizer": "smart",
}  # fmt: skip


def changes() -> list[str]:
    """A dotted key for every top-level value, and some inside the blocks."""
    blocks = ("tasks", "mixtures", "sequential", "seeds", "pretrain", "evaluate", "report")
    inside = [
        *("tasks.sst.data.max_length", "tasks.sst.data.label", "tasks.quora.data.max_length"),
        *(
            "mixtures.pairs.sampling",
            "pretrain.lr",
            "pretrain.mlm_probability",
            "evaluate.bootstrap_samples",
            "report.alpha",
        ),
    ]
    return [*(key for key in SHIPPED if key not in blocks), *inside]


def other(value: Any) -> Any:
    """A value of the same type that the schema accepts as well."""
    if isinstance(value, str):
        return f"{value}x"
    return value / 2 if isinstance(value, float) else value + 1


def params(changed: str = "") -> Params:
    """The shipped parameters with `changed` altered, and no value of a task or mixture that would hide it."""
    values = copy.deepcopy(SHIPPED)
    for block in (*values["tasks"].values(), *values["mixtures"].values()):
        block.update(dict.fromkeys(Training.model_fields.keys() & block.keys()))
    if changed:
        *path, last = changed.split(".")
        block = values
        for key in path:
            block = block[key]
        block[last] = OTHER[last] if last in OTHER else other(block[last])
    return Params.model_validate(values)


def captured(stage: str, given: Params, monkeypatch: pytest.MonkeyPatch) -> object:
    """What the stage hands to the library."""
    module = importlib.import_module(STAGES[stage]["cmd"].split()[2])
    words, call = CALLS[stage]
    seen: list[object] = []

    def record(*args: object, **kwargs: object) -> dict[str, object]:
        seen.append((args, kwargs))
        return {}

    with monkeypatch.context() as patch:
        patch.setattr("yourbert.config.params.read_params", lambda: given)
        patch.setattr(call, record)
        for name in ("write_json", "read_json"):
            patch.setattr(f"yourbert.core.storage.{name}", lambda *args: {"wanted": {}, "limits": {}})
        module.main(*words)
    return seen


def declared(stage: str) -> list[str]:
    """The keys of a stage's params, those of an anchored list (`params.yaml: [..]`) among them."""
    listed = STAGES[stage]["params"]
    flat = [key for entry in listed for key in (entry["params.yaml"] if isinstance(entry, dict) else [entry])]
    return [key.replace("${item.task}", "sst").replace("${item.mixture}", "pairs") for key in flat]


@pytest.mark.parametrize("stage", CALLS)
@pytest.mark.parametrize("key", changes())
def test_what_reaches_the_library_is_declared(stage: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reaches = captured(stage, params(key), monkeypatch) != captured(stage, params(), monkeypatch)
    covered = any(key == name or key.startswith(f"{name}.") for name in declared(stage))
    assert covered or not reaches, f"{stage} reads {key}; add it to its params in dvc.yaml"
    if key in SHIPPED:
        assert covered == reaches, f"{stage} declares {key} and does not read it"


@pytest.mark.parametrize("other", ["evaluate-multitask", "evaluate-sequential"])
def test_evaluations_are_declared_alike(other: str) -> None:
    one, many = STAGES["evaluate"], STAGES[other]
    assert one["params"] == many["params"]
    assert [d for d in one["deps"] if d.endswith(".py")] == [d for d in many["deps"] if d.endswith(".py")]
