"""Gathered figures and dev rows -> report/index.html.

Words and tables that the Markdown report has too are rendered from it; what a page can do better - charts, verdicts in
colour, rows that can be searched - is made here. Everything that comes from data passes through Jinja's escaping, and
the page's own policy forbids any script but the one it carries, and any address.

Place in the flow: figures, dev rows, curves -> page.
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
from yourbert.report.load import LABELLED, Answers, Gathered
from yourbert.report.page.attributions import Explained, faithfulness, read_explained, words_of
from yourbert.report.page.charts import draw_calibration, draw_curves, draw_scores, name_of, read_curves
from yourbert.report.page.error_analysis import DevRows, badness, dev_rows, slice_scores
from yourbert.report.results import OWN, Figures
from yourbert.report.scores import scored
from yourbert.report.tables import number, p_value, study_rows, study_table, training_table
from yourbert.report.transfer import changed_rows
from yourbert.report.verdicts import answer

HERE = Path(__file__).parent
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
SHOWN_CHARACTERS = 2_000
WORST, FLIPPED = 30, 60  # rows shown of each task and model
SMALL = 12  # classes of a confusion table that can still be read


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
    """Writes the page. corpus: where the dev rows stand; curves, predictions: the folders of those files.

    Raises UserError (C01) when rows or curves do not belong to the answers.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    script, style = ((HERE / name).read_text(encoding="utf-8") for name in ("page.js", "page.css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"visible": visible, "number": number, "p_value": p_value, "name_of": name_of}
    rows = {
        task: dev_rows(facts, params.tasks[task].data, corpus, gathered.answers[task, "dev", task])
        for task, facts in gathered.tasks.items()
    }
    text = environment.get_template("page.html").render(
        script=Markup(script),
        style=Markup(style),
        policy=f"{POLICY}; script-src 'sha256-{digest}'",
        title="Which tailoring of BERT serves each task best",
        answer=rendered(answer(gathered, figures)),
        cautions=rendered(markdown.cautions(gathered, params)),
        runs=[OWN, *gathered.mixtures],
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
    """A text as people may look at it: what no screen shows as its number, and a very long one cut, which is said."""
    cut = text[:SHOWN_CHARACTERS]
    shown = "".join(c if c in "\n\t" or unicodedata.category(c)[0] != "C" else f"⟨U+{ord(c):04X}⟩" for c in cut)
    more = f" … (cut at {SHOWN_CHARACTERS:,} of {len(text):,} characters)" if len(text) > len(cut) else ""
    return shown + more


def _task(
    gathered: Gathered, params: Params, task: str, rows: DevRows, curves: Path, predictions: Path
) -> dict[str, Any]:
    """All that the page says about one task."""
    from markupsafe import Markup

    facts, runs = gathered.tasks[task], [task, *gathered.mixtures_of(task)]
    answers = {run: gathered.answers[task, "dev", run] for run in runs}
    bins = {
        run: calibration(one.probabilities_SRC.mean(axis=0), one.labels_R)
        for run, one in answers.items()
        if one.probabilities_SRC is not None
    }
    found = {run: read_curves(curves, run, task, params.seeds) for run in runs}
    explained = {run: read_explained(predictions, run, params.seeds[0], task) for run in runs}
    return {
        "name": task,
        "metric": facts.metric,
        "curves": Markup(draw_curves(task, facts.metric, found)),
        "calibration": Markup(draw_calibration(task, bins)) if bins else "",
        "calibration_errors": {name_of(run, task): calibration_error(one) for run, one in bins.items()},
        "confusions": [
            {"run": name_of(run, task), **_confusion(facts, one)}
            for run, one in answers.items()
            if 0 < len(facts.labels) <= SMALL
        ],
        "runs": [name_of(run, task) for run in runs],
        "slices": _slices(facts, rows, {name_of(run, task): one for run, one in answers.items()}, params.evaluate),
        "worst": [
            line
            for run, one in answers.items()
            for line in _worst(facts, name_of(run, task), rows, one, explained[run])
        ],
        "faithful": {name_of(run, task): faithfulness(one) for run, one in explained.items() if one},
    }


def _confusion(facts: Task, answers: Answers) -> dict[str, Any]:
    """Rows of each label by what was said, the mean over seeds, and the share of the label's rows."""
    size = len(facts.labels)
    cells = np.zeros((size, size))
    for predicted_R in answers.predicted_SR:
        np.add.at(cells, (answers.labels_R, predicted_R), 1 / len(answers.predicted_SR))
    shares = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
    lines = [
        {"label": label, "cells": list(zip(counts, part, strict=True))}
        for label, counts, part in zip(facts.labels, cells.tolist(), shares.tolist(), strict=True)
    ]
    return {"labels": facts.labels, "lines": lines}


def _slices(facts: Task, rows: DevRows, answers: Mapping[str, Answers], settings: Evaluate) -> list[dict[str, Any]]:
    """A line for each kind of text, with what every model scores on it."""
    found = {
        run: {
            one.name: one
            for one in slice_scores(facts, rows, ours, settings.bootstrap_samples, settings.confidence_level)
        }
        for run, ours in answers.items()
    }
    names = [name for name in rows.slices if any(name in of_run for of_run in found.values())]
    return [
        {"name": name, "rows": int(rows.slices[name].sum()), "scores": [of_run.get(name) for of_run in found.values()]}
        for name in names
    ]


def _worst(
    facts: Task, run: str, rows: DevRows, answers: Answers, explained: Mapping[str, Explained]
) -> Iterator[dict[str, Any]]:
    """The rows that a model gets most wrong, worst first."""
    bad_R = badness(facts, answers)
    for row in np.argsort(-bad_R, kind="stable")[:WORST].tolist():
        yield {
            "run": run,
            "id": answers.ids[row],
            "texts": rows.texts[row],
            "words": words_of(explained.get(answers.ids[row])),
            "label": _said(facts, answers.labels_R[row]),
            "answer": _answer(facts, answers, row),
            "slices": [name for name, mask_R in rows.slices.items() if mask_R[row]],
        }


def _said(facts: Task, value: Any) -> str:
    return facts.labels[int(value)] if facts.labels else f"{float(value):.2f}"


def _answer(facts: Task, answers: Answers, row: int) -> str:
    """What the model says, with how sure it is; over seeds, the mean."""
    if answers.probabilities_SRC is None:
        return f"{answers.predicted_SR[:, row].mean():.2f}"
    shares_C: Array = answers.probabilities_SRC[:, row].mean(axis=0)
    said = int(shares_C.argmax())
    return f"{facts.labels[said]} ({shares_C[said]:.0%})"


def _matrix(gathered: Gathered, figures: Figures) -> list[dict[str, Any]]:
    """What each task gains in each mixture: its rows are tasks, its cells by mixture."""
    tasks = [task for task in gathered.tasks if gathered.mixtures_of(task)]
    return [
        {"task": task, "cells": [figures.matches.get((task, mixture)) for mixture in gathered.mixtures]}
        for task in tasks
    ]


def _flipped(gathered: Gathered, rows: Mapping[str, DevRows]) -> Iterator[dict[str, Any]]:
    """Rows whose answer changes when tasks join, with their texts."""
    for _, lines in groupby(changed_rows(gathered), lambda one: (one.task, one.mixture)):
        for one in islice(lines, FLIPPED):
            row_id = gathered.answers[one.task, "dev", one.task].ids[one.row]
            yield {**one._asdict(), "id": row_id, "texts": rows[one.task].texts[one.row], "words": []}
