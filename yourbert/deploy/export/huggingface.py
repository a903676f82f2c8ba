"""Folders that transformers and sentence-transformers load natively, with the same predictions.

The BERT classifier of transformers pools the first token; it has no class for mean pooling. sentence-transformers has
one, composed of an encoder, a pooling and a dense layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from yourbert.core.errors import fail
from yourbert.core.storage import write_json, write_tensors
from yourbert.core.tasks import Task
from yourbert.model.heads import ClassifyHead, CosineHead, RegressHead
from yourbert.model.multitask import Model
from yourbert.model.pretrained import CONFIG_FILE, PREFIX, WEIGHTS_FILE, to_stock

LIBRARY = "sentence_transformers.models"


def check_target(target: str, model: Model, task: Task) -> None:
    """Raises UserError (P05) if a format cannot represent the model of a task, or how its texts are truncated."""
    if task.truncation_side == "middle":
        what = f"task '{task.name}' cuts long texts in the middle, which no tokenizer of another library can do"
        fix = "use `yourbert serve`, `yourbert predict` or `yourbert.load`, or train with another `truncation_side`"
        fail("P05", what, where=f"--to {target}", fix=fix)
    head, separate, cls = model.heads[task.name], task.sequences_per_row == 2, model.task_pooling[task.name] == "cls"
    dense = isinstance(head, ClassifyHead | RegressHead)
    if target == "transformers" and (separate or not cls or not dense):
        reason = "encodes the two texts separately" if separate else "uses mean pooling"
        what = f"task '{task.name}' {reason}, and transformers has no such BERT model"
        fix = "export it to sentence-transformers or onnx, or train with `pooling: cls`"
        fail("P05", what, where="--to transformers", fix=fix)
    if target == "sentence-transformers" and (cls or not (isinstance(head, CosineHead) or (dense and not separate))):
        what = f"task '{task.name}' is not an encoder with mean pooling and a dense layer"
        fail("P05", what, where="--to sentence-transformers", fix="export it to onnx, or train with `pooling: mean`")


def write_transformers(folder: Path, model: Model, task: Task) -> None:
    """Writes a folder for `AutoModelForSequenceClassification`.

    The logits are the same. For a similarity the single logit z means low + (high - low) * sigmoid(z).
    """
    head = model.heads[task.name]
    assert isinstance(head, ClassifyHead | RegressHead), "check_target"
    tensors: dict[str, Tensor] = {
        PREFIX + name: tensor for name, tensor in to_stock(model.encoder_for(task.name)).items()
    }
    tensors |= {"classifier.weight": head.linear.weight, "classifier.bias": head.linear.bias}
    write_tensors(folder / WEIGHTS_FILE, tensors, {"format": "pt"})
    write_json(folder / CONFIG_FILE, _config(model, "BertForSequenceClassification") | _labels(task))


def _config(model: Model, architecture: str) -> dict[str, Any]:
    return {"architectures": [architecture], "dtype": "float32", **model.encoder.config.to_json()}


def _labels(task: Task) -> dict[str, Any]:
    if not task.labels:
        return {"num_labels": 1, "problem_type": "regression", "id2label": {"0": task.name}, "label2id": {task.name: 0}}
    return {
        "problem_type": "single_label_classification",
        "id2label": {str(number): label for number, label in enumerate(task.labels)},
        "label2id": {label: number for number, label in enumerate(task.labels)},
    }


def write_sentence_transformers(folder: Path, model: Model, task: Task) -> None:
    """Writes a folder for `SentenceTransformer`: its vectors, or for a classification the head's logits."""
    head = model.heads[task.name]
    write_tensors(folder / WEIGHTS_FILE, to_stock(model.encoder_for(task.name)), {"format": "pt"})
    write_json(folder / CONFIG_FILE, _config(model, "BertModel"))
    width, length = model.encoder.config.hidden_size, task.max_length
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    pooling = {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": length, "do_lower_case": False})
    write_json(folder / "1_Pooling" / "config.json", pooling)
    if isinstance(head, ClassifyHead | RegressHead):
        modules.append(("2_Dense", "Dense"))
        dense_config = {"in_features": width, "out_features": head.linear.out_features, "bias": True}
        write_json(
            folder / "2_Dense" / "config.json",
            dense_config | {"activation_function": "torch.nn.modules.linear.Identity"},
        )
        dense: Mapping[str, Tensor] = {"linear.weight": head.linear.weight, "linear.bias": head.linear.bias}
        write_tensors(folder / "2_Dense" / WEIGHTS_FILE, dense, {"format": "pt"})
    entries = [
        {"idx": number, "name": str(number), "path": path, "type": f"{LIBRARY}.{kind}"}
        for number, (path, kind) in enumerate(modules)
    ]
    # A list at the top level, as sentence-transformers expects; `read_json` reads objects only.
    write_json(folder / "modules.json", entries)
    write_json(folder / "config_sentence_transformers.json", {"similarity_fn_name": "cosine"})
