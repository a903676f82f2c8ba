"""The evaluate stage: model folder and tokens in; metrics, predictions, submission files and confusion rows out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from yourbert.config.schema import Evaluate, Runtime
from yourbert.core.storage import read_json, write_json
from yourbert.core.tasks import Split
from yourbert.evaluation.explain import Explainer
from yourbert.evaluation.metrics import row_losses
from yourbert.evaluation.predictions import (
    confusion_rows,
    evaluate_split,
    overall_scores,
    write_confusion,
    write_predictions,
    write_submission,
)
from yourbert.inference.model_folder import load_fp32, load_model
from yourbert.inference.predict import predict
from yourbert.runtime.machine import prepare
from yourbert.tokens.packing import open_tokens
from yourbert.tokens.tokenizer import Tokenizer

# Steps of the integral of an attribution; with 16 its error is a few hundredths.
INTEGRATION_STEPS = 16
PREDICTED_SPLITS: tuple[Split, ...] = ("dev", "test")


def evaluate(
    model: Path, tokens: Path, settings: Evaluate, runtime: Runtime, predictions: Path, metrics: Path, confusion: Path
) -> None:
    """Predicts dev and test of every task of the model; scores labeled splits, explains the highest-loss dev rows.

    model: a model folder. tokens: the folder of the tasks' tokens. predictions, metrics, confusion: the outputs.
    Raises UserError: C01, C12 for a damaged folder, C06 if tokens and model have different labels.
    """
    machine = prepare(runtime)
    loaded, tasks = load_model(model, machine)
    exact = load_fp32(model, machine, loaded) if settings.num_explanations else (loaded, machine)
    tokenizer = Tokenizer.load(model)
    scores: dict[str, Any] = {name: {} for name in tasks}
    rows: list[tuple[str, str, str]] = []
    for name, task in tasks.items():
        opened = open_tokens(tokens / name)
        opened.check_task(task, model)
        for split in (s for s in PREDICTED_SPLITS if s in opened.splits):
            packed = opened.splits[split]
            outputs = predict(loaded, name, packed, machine)
            ids = packed.ids()
            write_predictions(predictions / f"{name}-{split}.csv", task, ids, outputs, packed.labels)
            if name in settings.submission:
                submission = predictions / "submission" / f"{name}-{split}-out.csv"
                write_submission(submission, task, settings.submission[name], ids, outputs)
            if packed.labels is None:
                continue
            scores[name][split] = evaluate_split(
                task,
                split,
                outputs,
                packed.labels,
                resamples=settings.bootstrap_samples,
                confidence=settings.confidence_level,
            )
            if split == "dev":
                rows += confusion_rows(task, outputs, packed.labels)
                worst = np.argsort(-row_losses(task, outputs, packed.labels), kind="stable")[
                    : settings.num_explanations
                ]
                explainer = Explainer(exact[0], task, tokenizer, exact[1], INTEGRATION_STEPS)
                explanations = {ids[row]: asdict(explainer.explain_row(packed, row)) for row in worst.tolist()}
                write_json(predictions / f"{name}-explained.json", explanations)
    outcome = read_json(model / "model.json")["outcome"]
    overall = overall_scores(list(tasks.values()), scores)
    write_json(metrics, {**scores, "overall": overall, "training": outcome})
    write_json(predictions / "tasks.json", {name: task.to_json() for name, task in tasks.items()})
    write_confusion(confusion, iter(rows))
