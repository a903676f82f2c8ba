"""Exports a model folder to the format of another library; predictions agree to 1e-5."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from yourbert.core.errors import fail
from yourbert.core.storage import link_or_copy, read_json, write_json
from yourbert.core.tasks import Task
from yourbert.deploy.batch import select_task
from yourbert.deploy.export.dev_scores import dev_scores
from yourbert.deploy.export.huggingface import write_sentence_transformers, write_transformers
from yourbert.deploy.export.model_card import write_card
from yourbert.deploy.export.onnx import GRAPH, quantize, write_onnx
from yourbert.inference.model_folder import load_model
from yourbert.model.heads import CosineHead
from yourbert.model.multitask import Model
from yourbert.runtime.machine import Machine


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
    model, tasks = load_model(folder, machine)
    with _new_folder(out):
        about = read_json(folder / "model.json")
        notes = ""
        if target == "onnx":
            write_onnx(out, model, tasks)
            exported = dict(tasks)
            notes = _quantize(out, exported, tokens) if int8 else ""
        else:
            task = select_task(tasks, task_name, folder)
            exported = {task.name: task}
            (write_transformers if target == "transformers" else write_sentence_transformers)(out, model, task)
        link_or_copy(folder / "vocab.txt", out / "vocab.txt")
        longest = max(task.max_length for task in exported.values())
        write_json(out / "tokenizer_config.json", _tokenizer(folder, longest))
        scores = metrics / "runs" / str(about["run"]) / f"{about['seed']}.json"
        usage = _usage(target, exported) + _similarity_formula(model, exported, target)
        write_card(out, about, exported, scores, usage + notes)


@contextmanager
def _new_folder(out: Path) -> Iterator[None]:
    """Makes an empty folder for the block to write; removes it if the block fails before it writes anything.

    Raises UserError (P05) if `out` exists and is not empty: it may be the model itself.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        fail("P05", "this exists already and would be overwritten", where=str(out), fix="name a new folder")
    out.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with suppress(OSError):
            out.rmdir()
        raise


def _quantize(out: Path, tasks: dict[str, Task], tokens: Path) -> str:
    """Quantizes the graph to 8 bits; returns Markdown with the dev scores of each task before and after."""
    before = dev_scores(out, tasks, tokens)
    quantize(out / GRAPH)
    after = dev_scores(out, tasks, tokens)
    lines = [f"- {name}, dev: {tasks[name].metric} {after[name]:.3f} instead of {before[name]:.3f}" for name in before]
    return "\n\nThe weights of the matrix products are 8-bit integers.\n\n" + "\n".join(lines)


def _tokenizer(folder: Path, longest: int) -> dict[str, object]:
    lower_case = bool(read_json(folder / "tokenizer_config.json").get("do_lower_case", True))
    return {"tokenizer_class": "BertTokenizer", "do_lower_case": lower_case, "model_max_length": longest}


def _usage(target: str, tasks: dict[str, Task]) -> str:
    task = next(iter(tasks.values()))
    texts = '"a text", "another"' if task.pair else '"a text"'
    code = {
        "transformers": f"""from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForSequenceClassification.from_pretrained(".")
logits = model(**tokenizer({texts}, return_tensors="pt", truncation=True)).logits""",
        "sentence-transformers": """from sentence_transformers import SentenceTransformer

model = SentenceTransformer(".")
vectors = model.encode(["a text", "another"])  # logits of the labels, if the head is not a cosine""",
        "onnx": """import onnxruntime
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
session = onnxruntime.InferenceSession("model.onnx")
answers = session.run(None, dict(tokenizer(["a text"], return_tensors="np", padding=True)))  # see tasks.json""",
    }[target]
    return f"```python\n{code}\n```"


def _similarity_formula(model: Model, tasks: dict[str, Task], target: str) -> str:
    """How to compute a similarity on the task's scale from the other library's output."""
    task = next(iter(tasks.values()))
    if task.labels or target == "onnx":
        return ""
    head, unit = model.heads[task.name], "sigmoid(logit)"
    if isinstance(head, CosineHead):
        unit = f"({head.scale.item():g} * cosine + {head.bias.item():g})"
    ends = f"clipped to {task.low:g} and {task.high:g}"
    return f"\n\nThe similarity is {task.low:g} + {task.high - task.low:g} * {unit}, {ends}."
