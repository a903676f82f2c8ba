"""Exports a model folder to the format of another library; predictions agree to 1e-5.

What decides a model's input travels with it: the vocabulary, every setting of the tokenizer, length and side of
truncation.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from yourbert.core.errors import fail
from yourbert.core.storage import read_json, replacing, scratch, write_json
from yourbert.core.tasks import Task
from yourbert.deploy.batch import select_task
from yourbert.deploy.export.dev_scores import dev_scores
from yourbert.deploy.export.huggingface import check_target, write_sentence_transformers, write_transformers
from yourbert.deploy.export.model_card import write_card
from yourbert.deploy.export.onnx import GRAPH, QUANTIZED, quantize, write_onnx
from yourbert.inference.model_folder import load_model
from yourbert.model.heads import CosineHead
from yourbert.model.multitask import Model
from yourbert.runtime.machine import Machine
from yourbert.tokens.tokenizer import CONFIG, VOCABULARY, Tokenizer


def export(
    folder: Path,
    out: Path,
    target: str,
    task_name: str | None,
    int8: bool,
    machine: Machine,
    metrics: Path,
    tokens: Path,
) -> None:
    """Writes the folder `out`. target: "transformers", "sentence-transformers" or "onnx".

    int8: for ONNX, 8-bit weights. metrics: the folder of metrics files, for the scores in the model card. tokens: the
    folder of the tasks' tokens, to measure the dev scores of 8-bit weights.
    Raises UserError: C01, C12 for no valid model folder, I06 if a task must be named, P05 for a model that the target
    format cannot represent, and for an `out` that exists and is not empty.
    """
    if int8 and target != "onnx":
        fail("P05", "only ONNX has 8-bit weights", where=f"--to {target} --int8", fix="leave one of them out")
    model, tasks = load_model(folder, machine)
    exported = tasks if target == "onnx" else {(task := select_task(tasks, task_name, folder)).name: task}
    for task in exported.values():
        check_target(target, model, task)
    about = read_json(folder / "model.json")
    with _new_folder(out) as made:
        notes = ""
        if target == "onnx":
            write_onnx(made, model, tasks)
            notes = _quantize(made, exported, tokens) if int8 else ""
        else:
            (write_transformers if target == "transformers" else write_sentence_transformers)(made, model, task)
        with replacing(
            made / VOCABULARY
        ) as part:  # a copy: a link may lead into DVC's cache, whose files are read-only
            shutil.copyfile(folder / VOCABULARY, part)
        write_json(made / CONFIG, _tokenizer_config(Tokenizer.load(folder), exported))
        scores = metrics / "runs" / str(about["run"]) / f"{about['seed']}.json"
        usage = _usage(target, exported) + _similarity_formula(model, exported, target)
        write_card(made, about, exported, scores, usage + notes)


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """Yields a folder that becomes `out` when the block succeeds; else nothing is left.

    Raises UserError: P05 if `out` exists and is not empty, as it may be the model itself; R07 (disk).
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        fail("P05", "this exists already and would be overwritten", where=str(out), fix="name a new folder")
    with scratch(out.absolute().parent) as work:
        made = work / "export"
        made.mkdir()
        yield made
        try:
            if out.exists():
                out.rmdir()
            made.rename(out)
        except OSError as error:
            fail("R07", f"cannot write: {error.strerror}", where=str(out), fix="free space or permissions there")


def _quantize(made: Path, tasks: Mapping[str, Task], tokens: Path) -> str:
    """Quantizes the graph to 8 bits; returns Markdown with its size and the tasks' dev scores, before and after."""
    before, size = dev_scores(made, tasks, tokens), (made / GRAPH).stat().st_size
    quantize(made / GRAPH)
    after, small = dev_scores(made, tasks, tokens), (made / GRAPH).stat().st_size
    sizes = f"{GRAPH} has {small / 1e6:.3g} MB instead of {size / 1e6:.3g} MB ({small / size:.0%})"
    lines = [f"- {name}, dev: {tasks[name].metric} {after[name]:.3f} instead of {before[name]:.3f}" for name in before]
    return "\n\n".join(["", f"{QUANTIZED} {sizes}.", "\n".join(lines)])


def _tokenizer_config(tokenizer: Tokenizer, tasks: Mapping[str, Task]) -> dict[str, Any]:
    """What `AutoTokenizer` reads. Length and side of truncation are those of the tasks where they agree."""
    sides = {task.truncation_side for task in tasks.values()}
    return {
        "tokenizer_class": "BertTokenizer",
        "model_max_length": max(task.max_length for task in tasks.values()),
        "truncation_side": sides.pop() if len(sides) == 1 else "right",
        **tokenizer.settings.to_json(),
    }


def _usage(target: str, tasks: Mapping[str, Task]) -> str:
    task = next((task for task in tasks.values() if task.sequences_per_row == 1), next(iter(tasks.values())))
    texts = '["a text"], ["another"]' if task.pair and task.sequences_per_row == 1 else '["a text"]'
    code = {
        "transformers": f"""from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForSequenceClassification.from_pretrained(".")
logits = model(**tokenizer({texts}, return_tensors="pt", padding=True, truncation=True)).logits""",
        "sentence-transformers": """from sentence_transformers import SentenceTransformer

model = SentenceTransformer(".")
vectors = model.encode(["a text", "another"])  # logits of the labels, if the head is not a cosine""",
        "onnx": f"""import json
import onnxruntime
from transformers import AutoTokenizer

with open("tasks.json", encoding="utf-8") as file:
    task = json.load(file)["{task.name}"]
cut = {{"model_max_length": task["max_length"], "truncation_side": task["truncation_side"]}}
tokenizer = AutoTokenizer.from_pretrained(".", **cut)
session = onnxruntime.InferenceSession("{GRAPH}")
inputs = dict(tokenizer({texts}, return_tensors="np", padding=True, truncation=True))
(scores,) = session.run([task.get("reads", task["output"])], inputs)""",
    }[target]
    return f"```python\n{code}\n```"


def _similarity_formula(model: Model, tasks: Mapping[str, Task], target: str) -> str:
    """How to compute a similarity on the task's scale from the other library's output."""
    task = next(iter(tasks.values()))
    if task.labels or target == "onnx":
        return ""
    head, unit = model.heads[task.name], "sigmoid(logit)"
    if isinstance(head, CosineHead):
        unit = f"({head.scale.item():g} * cosine + {head.bias.item():g})"
    ends = f"clipped to {task.low:g} and {task.high:g}"
    return f"\n\nThe similarity is {task.low:g} + {task.high - task.low:g} * {unit}, {ends}."
