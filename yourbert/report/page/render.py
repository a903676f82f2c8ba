"""Renders report/index.html from the results, the dev rows and the learning curves.

Text and tables that the Markdown report also has are rendered from it. Charts, coloured verdicts and searchable rows
are made here. All data passes through Jinja's escaping, and the page's content security policy allows no script but its
own and no network address.
"""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from collections.abc import Iterator, Mapping
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np

from yourbert.config.schema import Evaluate, Params
from yourbert.core.storage import write_text
from yourbert.core.tasks import Task
from yourbert.evaluation.metrics import Array, calibration, calibration_error
from yourbert.report import markdown
from yourbert.report.cost import cost_page
from yourbert.report.data_card import files_table, overlap_table, rows_table
from yourbert.report.load import LABELLED, Gathered, RunPredictions
from yourbert.report.page.attributions import Explained, faithfulness, read_explained, words_of
from yourbert.report.page.charts import draw_calibration, draw_curves, draw_scores, read_curves
from yourbert.report.page.error_analysis import DevRows, dev_rows, mean_loss, slice_scores
from yourbert.report.results import SINGLE_TASK, Figures
from yourbert.report.scores import scored
from yourbert.report.tables import difference, model_name, number, study_rows, study_table, training_table, verdict
from yourbert.report.transfer import changed_rows
from yourbert.report.verdicts import summary_paragraph

HERE = Path(__file__).parent
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
SHOWN_CHARACTERS = 2_000
HIGHEST_LOSS, FLIPPED = 30, 60  # rows shown per task and model
SMALL = 12  # classes of a confusion matrix that is still readable


def write_page(
    gathered: Gathered,
    figures: Figures,
    params: Params,
    overlaps: Mapping[str, Mapping[str, int]],
    corpus: Path,
    curves: Path,
    predictions: Path,
    out: Path,
) -> None:
    """Writes the page. corpus: the folder of the dev files; curves, predictions: the folders of those files.

    Raises UserError (C01) where rows or curves do not match the predictions.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    script, style = ((HERE / name).read_text(encoding="utf-8") for name in ("page.js", "page.css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"visible": visible, "number": number, "difference": difference, "verdict": verdict}
    environment.filters["model_name"] = model_name
    rows = {
        task: dev_rows(facts, params.tasks[task].data, corpus, gathered.predictions[task, "dev", task])
        for task, facts in gathered.tasks.items()
    }
    text = environment.get_template("page.html").render(
        script=Markup(script),
        style=Markup(style),
        policy=f"{POLICY}; script-src 'sha256-{digest}'",
        title="The best model for each task",
        verdicts=rendered(summary_paragraph(gathered, figures)),
        cautions=rendered(markdown.cautions(gathered, params)),
        runs=[SINGLE_TASK, *gathered.mixtures],
        scores={split: list(scored(gathered, figures, split)) for split in LABELLED},
        scores_chart=Markup(draw_scores(gathered, figures)),
        legend=rendered(markdown.legend(gathered, params, "below it")),
        tasks=[_task(gathered, params, task, rows[task], curves, predictions) for task in gathered.tasks],
        matrix=_matrix(gathered, figures),
        flipped=list(_flipped(gathered, rows)),
        cost=rendered(*list(cost_page(gathered, figures))[1:]),
        study=rendered(study_table(gathered, figures)) if study_rows(gathered) else "",
        data=rendered(files_table(gathered), rows_table(gathered), *markdown.warnings(gathered)),
        overlaps=rendered(overlap_table(overlaps)) if any(overlaps.values()) else "",
        training=rendered(training_table(gathered), markdown.pretraining(gathered)),
        methods=rendered(markdown.methods(figures, params)),
    )
    write_text(out, text)


def rendered(*blocks: str) -> Any:
    """Blocks of the Markdown report as HTML; what looks like HTML in them is text."""
    from markdown_it import MarkdownIt
    from markupsafe import Markup

    reader = (
        MarkdownIt("commonmark", {"html": False, "breaks": True}).enable("table").disable(["link", "autolink", "image"])
    )
    return Markup("\n".join(f'<div class="wide">{reader.render(block)}</div>' for block in blocks if block))


def visible(text: str) -> str:
    """A text for display: control characters as code points, and a very long text truncated with a note."""
    cut = text[:SHOWN_CHARACTERS]
    shown = "".join(c if c in "\n\t" or unicodedata.category(c)[0] != "C" else f"⟨U+{ord(c):04X}⟩" for c in cut)
    more = f" … (truncated at {SHOWN_CHARACTERS:,} of {len(text):,} characters)" if len(text) > len(cut) else ""
    return shown + more


def _task(
    gathered: Gathered, params: Params, task: str, rows: DevRows, curves: Path, predictions: Path
) -> dict[str, Any]:
    """The page's values for one task."""
    from markupsafe import Markup

    facts, runs = gathered.tasks[task], [task, *gathered.mixtures_of(task)]
    by_run = {run: gathered.predictions[task, "dev", run] for run in runs}
    bins = {
        run: calibration(one.probabilities_SRC.mean(axis=0), one.labels_R)
        for run, one in by_run.items()
        if one.probabilities_SRC is not None
    }
    found = {run: read_curves(curves, run, task, params.seeds) for run in runs}
    explained = {run: read_explained(predictions, run, params.seeds[0], task) for run in runs}
    return {
        "name": task,
        "metric": facts.metric,
        "curves": Markup(draw_curves(task, facts.metric, found)),
        "calibration": Markup(draw_calibration(task, bins)) if bins else "",
        "calibration_errors": {model_name(run, task): calibration_error(one) for run, one in bins.items()},
        "confusions": [
            {"run": model_name(run, task), **_confusion(facts, one)}
            for run, one in by_run.items()
            if 0 < len(facts.labels) <= SMALL
        ],
        "runs": [model_name(run, task) for run in runs],
        "slices": _slices(facts, rows, {model_name(run, task): one for run, one in by_run.items()}, params.evaluate),
        "highest_loss": [
            line
            for run, one in by_run.items()
            for line in _highest_loss(facts, model_name(run, task), rows, one, explained[run])
        ],
        "faithful": {model_name(run, task): faithfulness(one) for run, one in explained.items() if one},
    }


def _confusion(facts: Task, predictions: RunPredictions) -> dict[str, Any]:
    """The confusion matrix: counts as means over seeds, and shares of each label's rows."""
    size = len(facts.labels)
    cells = np.zeros((size, size))
    for predicted_R in predictions.predicted_SR:
        np.add.at(cells, (predictions.labels_R, predicted_R), 1 / len(predictions.predicted_SR))
    shares = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
    lines = [
        {"label": label, "cells": list(zip(counts, part, strict=True))}
        for label, counts, part in zip(facts.labels, cells.tolist(), shares.tolist(), strict=True)
    ]
    return {"labels": facts.labels, "lines": lines}


def _slices(
    facts: Task, rows: DevRows, predictions: Mapping[str, RunPredictions], settings: Evaluate
) -> list[dict[str, Any]]:
    """A line for each slice, with the score of every model."""
    found = {
        run: {
            one.name: one
            for one in slice_scores(facts, rows, ours, settings.bootstrap_samples, settings.confidence_level)
        }
        for run, ours in predictions.items()
    }
    names = [name for name in rows.slices if any(name in of_run for of_run in found.values())]
    return [
        {"name": name, "rows": int(rows.slices[name].sum()), "scores": [of_run.get(name) for of_run in found.values()]}
        for name in names
    ]


def _highest_loss(
    facts: Task, run: str, rows: DevRows, predictions: RunPredictions, explained: Mapping[str, Explained]
) -> Iterator[dict[str, Any]]:
    """The rows of highest loss, highest first."""
    loss_R = mean_loss(facts, predictions)
    for row in np.argsort(-loss_R, kind="stable")[:HIGHEST_LOSS].tolist():
        yield {
            "run": run,
            "id": predictions.ids[row],
            "texts": rows.texts[row],
            "words": words_of(explained.get(predictions.ids[row])),
            "label": _shown_label(facts, predictions.labels_R[row]),
            "prediction": _prediction(facts, predictions, row),
            "slices": [name for name, mask_R in rows.slices.items() if mask_R[row]],
        }


def _shown_label(facts: Task, value: Any) -> str:
    return facts.labels[int(value)] if facts.labels else f"{float(value):.2f}"


def _prediction(facts: Task, predictions: RunPredictions, row: int) -> str:
    """The prediction with its probability, the mean over seeds."""
    if predictions.probabilities_SRC is None:
        return f"{predictions.predicted_SR[:, row].mean():.2f}"
    shares_C: Array = predictions.probabilities_SRC[:, row].mean(axis=0)
    best = int(shares_C.argmax())
    return f"{facts.labels[best]} ({shares_C[best]:.0%})"


def _matrix(gathered: Gathered, figures: Figures) -> list[dict[str, Any]]:
    """The comparison of each task (rows) in each multi-task model (cells) with its single-task model."""
    tasks = [task for task in gathered.tasks if gathered.mixtures_of(task)]
    return [
        {"task": task, "cells": [figures.comparisons.get((task, mixture)) for mixture in gathered.mixtures]}
        for task in tasks
    ]


def _flipped(gathered: Gathered, rows: Mapping[str, DevRows]) -> Iterator[dict[str, Any]]:
    """The rows whose prediction co-training changes, with their texts."""
    for _, lines in groupby(changed_rows(gathered), lambda one: (one.task, one.mixture)):
        for one in islice(lines, FLIPPED):
            row_id = gathered.predictions[one.task, "dev", one.task].ids[one.row]
            yield {**one._asdict(), "id": row_id, "texts": rows[one.task].texts[one.row], "words": []}
