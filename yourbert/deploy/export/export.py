"""A model folder in the form that another library loads; the same answers, to 1e-5."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from yourbert.core.errors import fail
from yourbert.core.storage import link_or_copy, read_json, write_json
from yourbert.core.tasks import Task
from yourbert.deploy.batch import chosen
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
    form: str,
    task_name: str | None,
    int8: bool,
    machine: Machine,
    metrics: Path,
    tokens: Path,
) -> None:
    """Writes `out`. metrics: the folder of metrics files, for the card. int8: ONNX with 8-bit weights.

    tokens: where the tasks' tokens lie; the card then says what 8 bits cost on dev.

    Raises UserError: C01, C12 for what is no model folder, I06 where a task must be named, P05 for a form that cannot
    say it, and for an `out` that holds something already.
    """
    model, tasks = load_model(folder, machine)
    with _new_folder(out):
        about = read_json(folder / "model.json")
        notes = ""
        if form == "onnx":
            write_onnx(out, model, tasks)
            told = dict(tasks)
            notes = _in_eight_bits(out, told, tokens) if int8 else ""
        else:
            task = chosen(tasks, task_name, folder)
            told = {task.name: task}
            (write_transformers if form == "transformers" else write_sentence_transformers)(out, model, task)
        link_or_copy(folder / "vocab.txt", out / "vocab.txt")
        longest = max(task.max_length for task in told.values())
        write_json(out / "tokenizer_config.json", _tokenizer(folder, longest))
        scores = metrics / "runs" / str(about["run"]) / f"{about['seed']}.json"
        write_card(out, about, told, scores, _use(form, told) + _scale(model, told, form) + notes)


@contextmanager
def _new_folder(out: Path) -> Iterator[None]:
    """Makes a folder for what the block writes; it goes again where the block fails before it wrote anything.

    Raises UserError (P05) where something is there already: it may be the model itself.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        fail("P05", "this is there already, and would be overwritten", where=str(out), fix="name a new folder")
    out.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with suppress(OSError):
            out.rmdir()
        raise


def _in_eight_bits(out: Path, tasks: dict[str, Task], tokens: Path) -> str:
    """Makes the graph a small one; what that changed on dev, as far as there are tokens to see it."""
    before = dev_scores(out, tasks, tokens)
    quantize(out / GRAPH)
    after = dev_scores(out, tasks, tokens)
    lines = [f"- {name}, dev: {tasks[name].metric} {after[name]:.3f} instead of {before[name]:.3f}" for name in before]
    return "\n\nThe weights of its products are 8-bit numbers.\n\n" + "\n".join(lines)


def _tokenizer(folder: Path, longest: int) -> dict[str, object]:
    lower_case = bool(read_json(folder / "tokenizer_config.json").get("do_lower_case", True))
    return {"tokenizer_class": "BertTokenizer", "do_lower_case": lower_case, "model_max_length": longest}


def _use(form: str, tasks: dict[str, Task]) -> str:
    task = next(iter(tasks.values()))
    texts = '"a text", "another"' if task.pair else '"a text"'
    code = {
        "transformers": f"""from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForSequenceClassification.from_pretrained(".")
logits = model(**tokenizer({texts}, return_tensors="pt", truncation=True)).logits""",
        "sentence-transformers": """from sentence_transformers import SentenceTransformer

model = SentenceTransformer(".")
vectors = model.encode(["a text", "another"])  # logits of the labels, where the task is no cosine""",
        "onnx": """import onnxruntime
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
session = onnxruntime.InferenceSession("model.onnx")
answers = session.run(None, dict(tokenizer(["a text"], return_tensors="np", padding=True)))  # see tasks.json""",
    }[form]
    return f"```python\n{code}\n```"


def _scale(model: Model, tasks: dict[str, Task], form: str) -> str:
    """How a similarity follows from what the other library gives."""
    task = next(iter(tasks.values()))
    if task.labels or form == "onnx":
        return ""
    head, how = model.heads[task.name], "sigmoid(logit)"
    if isinstance(head, CosineHead):
        how = f"({head.scale.item():g} * cosine + {head.bias.item():g})"
    ends = f"held within {task.low:g} and {task.high:g}"
    return f"\n\nThe similarity is {task.low:g} + {task.high - task.low:g} * {how}, {ends}."
