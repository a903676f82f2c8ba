"""The report as a page of Markdown: the answer first, then the table behind it, then how it was found.

Nothing in it depends on the date, the machine or the order of files: the same inputs give the same bytes.
Place in the flow: the last stage; `write_report` is its one library call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from yourbert.config.schema import SEEN_QUORA, Params
from yourbert.core.storage import write_csv, write_json, write_text
from yourbert.report import data_card, tables
from yourbert.report.cost import cost_page
from yourbert.report.load import Gathered, gather
from yourbert.report.published import SOURCE
from yourbert.report.results import Figures, as_json, compute
from yourbert.report.tables import count, plain
from yourbert.report.transfer import CHANGES, changes
from yourbert.report.verdicts import answer


def write_report(
    params: Params,
    metrics: Path,
    predictions: Path,
    tokens: Path,
    out: Path,
    summary: Path,
    overlaps: Mapping[str, Mapping[str, int]] | None = None,
) -> tuple[Gathered, Figures]:
    """Writes report.md, cost.md, changes.csv (to `out`) and summary.json (`summary`) from what the runs left behind.

    Returns what they were made of, for the page.

    metrics, predictions, tokens: the folders of `evaluate` and `tokenize`. overlaps: how many texts one task is
    scored on and another trained on, {"sts/dev": {"quora/train": 3}}. Raises UserError (C01) when a file is missing
    or does not belong to the others.
    """
    gathered = gather(params, metrics, predictions, tokens)
    figures = compute(gathered, params)
    pages = {"report.md": page(gathered, figures, params, overlaps or {}), "cost.md": cost_page(gathered, figures)}
    for name, blocks in pages.items():
        write_text(out / name, "\n\n".join(block for block in blocks if block) + "\n")
    write_csv(out / "changes.csv", CHANGES, changes(gathered))
    write_json(summary, as_json(gathered, figures))
    return gathered, figures


def page(
    gathered: Gathered, figures: Figures, params: Params, overlaps: Mapping[str, Mapping[str, int]]
) -> Iterator[str]:
    """The page's blocks from top to bottom; empty ones are left out."""
    yield "# Which tailoring of BERT serves each task best"
    yield answer(gathered, figures)
    yield cautions(gathered, params)
    yield "## Dev scores"
    yield tables.scores_table(gathered, figures, "dev")
    yield legend(gathered, params, "in parentheses")
    if gathered.mixtures:
        yield "Which answers change when tasks join: changes.csv; what joining costs: [cost.md](cost.md)."
    yield from _test(gathered, figures)
    yield from _study(gathered, figures, params)
    yield "## The data"
    yield data_card.files_table(gathered)
    yield data_card.rows_table(gathered)
    yield from warnings(gathered)
    yield from _overlaps(overlaps)
    yield "## What training took"
    yield tables.training_table(gathered)
    yield "Seconds, energy and what they bought: [cost.md](cost.md)."
    yield pretraining(gathered)
    yield "## How the figures were found"
    yield methods(figures, params)


def cautions(gathered: Gathered, params: Params) -> str:
    """What a reader must know before believing any figure."""
    found = []
    if params.corpus == "bundled":
        found.append("The files that came with the project are synthetic: scores on them say nothing about real text.")
    flattered = [plain(task) for task in ("quora", "sts") if task in gathered.tasks]
    if SEEN_QUORA in params.model and flattered:
        found.append(
            f"{plain(params.model)} saw Quora question pairs (duplicates) in its own pretraining, "
            f"so its {' and '.join(flattered)} figures flatter it."
        )
    if len(params.seeds) == 1:
        found.append(
            "Every model was trained once: the verdicts allow for the luck of the dev rows, not for the luck of "
            "training. More `seeds` in params.yaml show that too."
        )
    return "\n".join(f"- {one}" for one in found)


def legend(gathered: Gathered, params: Params, place: str) -> str:
    """How to read the table above it, in which intervals stand in this place."""
    seeds, share = len(params.seeds), f"{params.evaluate.confidence_level:.0%}"
    spread = f"the mean ± standard deviation over {seeds} seeds" if seeds > 1 else "that of the one seed"
    lines = [f"Each score is {spread}; {place} its {share} interval over dev rows."]
    if gathered.mixtures:
        lines.append(
            "A model of several tasks is judged against one model per task: better, worse or no real change, "
            "with the difference and its corrected p-value."
        )
    lines.append("The best epoch was chosen on dev, which flatters every dev score a little.")
    return "\n".join(lines)


def _test(gathered: Gathered, figures: Figures) -> Iterator[str]:
    if any(split == "test" for _, split, _ in gathered.answers):
        yield "## Test scores"
        yield tables.scores_table(gathered, figures, "test")
        yield "Nothing was chosen on these rows. Read as above; test files without labels have no line."


def _study(gathered: Gathered, figures: Figures, params: Params) -> Iterator[str]:
    if not tables.study_rows(gathered):
        return
    yield "## Beside the study"
    yield tables.study_table(gathered, figures)
    if params.corpus == "bundled":
        yield (
            "**Not comparable**: the files that came with the project are synthetic; the study's are on the "
            "data of its class. `corpus: cs224n` in params.yaml gives figures that can be compared."
        )
    else:
        yield f"Our figures are on the corpus {plain(params.corpus)}, with the model {plain(params.model)}."
    yield SOURCE


def warnings(gathered: Gathered) -> Iterator[str]:
    lines = [
        f"- {plain(task)}: {plain(one)}"
        for task, account in gathered.accounts.items()
        for one in account.get("warnings", [])
    ]
    if lines:
        yield "What `tokenize` noticed:"
        yield "\n".join(lines)


def _overlaps(overlaps: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    if any(overlaps.values()):
        yield "Texts that a shared model was trained on for one task and is scored on for another:"
        yield data_card.overlap_table(overlaps)


def pretraining(gathered: Gathered) -> str:
    """What came before fine-tuning, for all models alike; nothing where no stage has told."""
    if not gathered.pretrain:
        return ""
    if not gathered.pretrain.get("enabled"):
        return "No domain pretraining: every model starts from the same weights, those of the base model."
    steps, tokens = (count(gathered.pretrain.get(key)) for key in ("steps", "tokens"))
    return f"Before all of these: domain pretraining, {steps} steps over {tokens} tokens."


def methods(figures: Figures, params: Params) -> str:
    """How each kind of figure was found, so that another can find it again."""
    evaluate, compared = params.evaluate, figures.comparisons
    seeds = ", ".join(map(str, params.seeds))
    lines = [
        f"Model {plain(params.model)}, corpus {plain(params.corpus)}, seeds {seeds}.",
        f"Intervals: {evaluate.bootstrap_samples:,} resamples of the rows, the same for every model and every seed; "
        f"the middle {evaluate.confidence_level:.0%} of the mean over seeds.",
        *(_verdicts(compared, params) if compared else ()),
        "The figures of one seed are in metrics/runs/, its answers row by row in build/predictions/; this page's are "
        "in metrics/summary.json, with the interval of each difference (before correction).",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _verdicts(compared: int, params: Params) -> Iterator[str]:
    swaps, alpha = params.report.permutations, params.report.alpha
    yield (
        f"Verdicts: paired approximate randomisation with {swaps:,} swaps, two-sided, the same rows swapped in all "
        f"seeds; p-values corrected by Holm over all comparisons of the table ({compared}; the same "
        f"answers are tested once); a difference is real when p ≤ {alpha:g}. They allow for the luck of the dev rows; "
        "the luck of training is what the standard deviation over seeds shows."
    )
    yield (
        "Overall: the mean over tasks of each task's score on 0..1, where a correlation r (and mcc) counts as "
        "(r + 1) / 2; the own models' figure takes the same tasks."
    )
    if compared / (swaps + 1) > alpha:
        yield (
            f"**Too few swaps**: with {compared} comparisons and {swaps} swaps no p-value can reach {alpha:g}. "
            "Raise `report.permutations` in params.yaml."
        )
