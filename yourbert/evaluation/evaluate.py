"""A model folder and the tokens of its tasks in; metrics, predictions, hand-in files and confusion rows out."""

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
from yourbert.inference.model_folder import in_fp32, load_model
from yourbert.inference.predict import predict
from yourbert.runtime.machine import prepare
from yourbert.tokens.packing import open_tokens
from yourbert.tokens.tokenizer import Tokenizer

# On the way from an empty text to one that is explained; with so many a weight is off by a few hundredths.
POINTS = 16
TO_PREDICT: tuple[Split, ...] = ("dev", "test")


def evaluate(
    model: Path, tokens: Path, settings: Evaluate, runtime: Runtime, predictions: Path, metrics: Path, confusion: Path
) -> None:
    """Predicts dev and test of every task of the model; scores what has labels, explains the worst dev rows.

    Raises UserError (C06) when the tokens were made for other labels than the model knows.
    """
    machine = prepare(runtime)
    tailored, tasks = load_model(model, machine)
    explaining = in_fp32(model, machine, tailored) if settings.num_explanations else (tailored, machine)
    tokenizer = Tokenizer.load(model)
    found: dict[str, Any] = {name: {} for name in tasks}
    rows: list[tuple[str, str, str]] = []
    for name, task in tasks.items():
        opened = open_tokens(tokens / name)
        opened.check_same(task, model)
        for split in (s for s in TO_PREDICT if s in opened.splits):
            packed = opened.splits[split]
            outputs = predict(tailored, name, packed, machine)
            ids = packed.ids()
            write_predictions(predictions / f"{name}-{split}.csv", task, ids, outputs, packed.labels)
            if name in settings.submission:
                hand_in = predictions / "submission" / f"{name}-{split}-out.csv"
                write_submission(hand_in, task, settings.submission[name], ids, outputs)
            if packed.labels is None:
                continue
            found[name][split] = evaluate_split(
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
                explainer = Explainer(explaining[0], task, tokenizer, explaining[1], POINTS)
                told = {ids[row]: asdict(explainer.explain_row(packed, row)) for row in worst.tolist()}
                write_json(predictions / f"{name}-explained.json", told)
    outcome = read_json(model / "model.json")["outcome"]
    overall = overall_scores(list(tasks.values()), found)
    write_json(metrics, {**found, "overall": overall, "training": outcome})
    write_json(predictions / "tasks.json", {name: task.to_json() for name, task in tasks.items()})
    write_confusion(confusion, iter(rows))
