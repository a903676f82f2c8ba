"""The report in Markdown: the verdicts first, then the table behind it, then the methods.

Nothing in it depends on the date, the machine or the order of files: the same inputs give the same bytes.
The stage `report` calls `write_report`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from yourbert.config.schema import PRETRAINED_ON_QUORA, Params
from yourbert.core.storage import write_csv, write_json, write_text
from yourbert.report import data_card, tables
from yourbert.report.cost import cost_page
from yourbert.report.load import Gathered, gather
from yourbert.report.published import SOURCE
from yourbert.report.results import Figures, as_json, compute
from yourbert.report.tables import count, plain
from yourbert.report.transfer import CHANGES, changes
from yourbert.report.verdicts import summary_paragraph


def write_report(
    params: Params,
    metrics: Path,
    predictions: Path,
    tokens: Path,
    out: Path,
    summary: Path,
    overlaps: Mapping[str, Mapping[str, int]] | None = None,
) -> tuple[Gathered, Figures]:
    """Writes report.md, cost.md and changes.csv to `out`, and the scores and tests to `summary`; returns both inputs.

    metrics, predictions, tokens: the folders that `evaluate` and `tokenize` write. overlaps: how many texts of one
    task's dev or test another task trains on, {"sts/dev": {"quora/train": 3}}. Raises UserError (C01) for a missing
    file, or files of different runs.
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
    """The blocks of report.md from top to bottom; empty ones are left out."""
    yield "# The best model for each task"
    yield summary_paragraph(gathered, figures)
    yield cautions(gathered, params)
    yield "## Dev scores"
    yield tables.scores_table(gathered, figures, "dev")
    yield legend(gathered, params, "in parentheses")
    if gathered.mixtures:
        yield "changes.csv lists the predictions that co-training changes; [cost.md](cost.md) has what it costs."
    yield from _test(gathered, figures)
    yield from _study(gathered, figures, params)
    yield "## Data"
    yield data_card.files_table(gathered)
    yield data_card.rows_table(gathered)
    yield from warnings(gathered)
    yield from _overlaps(overlaps)
    yield "## Training statistics"
    yield tables.training_table(gathered)
    yield "Time, energy and the gain for them: [cost.md](cost.md)."
    yield pretraining(gathered)
    yield "## Methods"
    yield methods(figures, params)


def cautions(gathered: Gathered, params: Params) -> str:
    """What a reader must know before using any score."""
    found = []
    if params.corpus == "bundled":
        found.append("The bundled corpus is synthetic: scores on it say nothing about real text.")
    inflated = [plain(task) for task in ("quora", "sts") if task in gathered.tasks]
    if PRETRAINED_ON_QUORA in params.model and inflated:
        found.append(
            f"{plain(params.model)} was pretrained on Quora question pairs (duplicates), which inflates the "
            f"{' and '.join(inflated)} scores."
        )
    if len(params.seeds) == 1:
        found.append(
            "Every model was trained with one seed. Intervals and p-values reflect the size of the dev set, not the "
            "variance across training seeds. Add more `seeds` to measure that as well."
        )
    found += _constant_predictions(gathered)
    return "\n".join(f"- {one}" for one in found)


def _constant_predictions(gathered: Gathered) -> Iterator[str]:
    """A sentence on each model that predicts the same label for every dev row of a task."""
    for (task, split, run), one in gathered.predictions.items():
        labels = gathered.tasks[task].labels
        constant = [row_R[0] for row_R in one.predicted_SR if (row_R == row_R[0]).all()] if labels else []
        if split == "dev" and constant:
            seeds = f" with {len(constant)} of {len(one.predicted_SR)} seeds" if len(one.predicted_SR) > 1 else ""
            yield (
                f"The model {plain(run)} predicts {plain(labels[int(constant[0])])} for every dev row of {plain(task)}"
                f"{seeds}: it has not learned to tell the labels apart."
            )


def legend(gathered: Gathered, params: Params, place: str) -> str:
    """How to read the table above. place: where the table shows the intervals."""
    seeds, share = len(params.seeds), f"{params.evaluate.confidence_level:.0%}"
    spread = f"the mean ± standard deviation over {seeds} seeds" if seeds > 1 else "that of the one seed"
    lines = [f"Each score is {spread}, with its {share} bootstrap interval over dev rows {place}."]
    if gathered.mixtures:
        lines.append(
            "vs. single-task: the difference to the single-task model, with its interval corrected for multiple "
            "comparisons. The verdict is significantly better or worse if the interval excludes 0, equivalent if it "
            f"lies within ±{params.report.equivalence_margin:g}, and undecided otherwise."
        )
    lines.append("The best epoch was chosen on dev, which slightly inflates every dev score.")
    return "\n".join(lines)


def _test(gathered: Gathered, figures: Figures) -> Iterator[str]:
    if any(split == "test" for _, split, _ in gathered.predictions):
        yield "## Test scores"
        yield tables.scores_table(gathered, figures, "test")
        yield "Nothing was selected on these rows. Test files without labels are left out."


def _study(gathered: Gathered, figures: Figures, params: Params) -> Iterator[str]:
    if not tables.study_rows(gathered):
        return
    yield "## Comparison with the paper"
    yield tables.study_table(gathered, figures)
    if params.corpus == "bundled":
        yield (
            "**Not comparable**: the bundled corpus is synthetic, and the paper's scores are on the CS224N data. "
            "`corpus: cs224n` in params.yaml gives comparable scores."
        )
    else:
        yield f"Ours: corpus {plain(params.corpus)}, model {plain(params.model)}."
    yield SOURCE


def warnings(gathered: Gathered) -> Iterator[str]:
    lines = [
        f"- {plain(task)}: {plain(one)}"
        for task, account in gathered.accounts.items()
        for one in account.get("warnings", [])
    ]
    if lines:
        yield "Warnings of `tokenize`:"
        yield "\n".join(lines)


def _overlaps(overlaps: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    if any(overlaps.values()):
        yield "Texts that a multi-task model is trained on for one task and evaluated on for another:"
        yield data_card.overlap_table(overlaps)


def pretraining(gathered: Gathered) -> str:
    """The domain pretraining before fine-tuning; empty where its metrics are missing."""
    if not gathered.pretrain:
        return ""
    if not gathered.pretrain.get("enabled"):
        return "No domain pretraining: every model starts from the base model's weights."
    steps, tokens = (count(gathered.pretrain.get(key)) for key in ("steps", "tokens"))
    return f"Domain pretraining before all of these: {steps} steps, {tokens} tokens."


def methods(figures: Figures, params: Params) -> str:
    """How each kind of figure is computed, in enough detail to compute it again."""
    evaluate, tests = params.evaluate, figures.tests
    seeds = ", ".join(map(str, params.seeds))
    lines = [
        f"Model {plain(params.model)}, corpus {plain(params.corpus)}, seeds {seeds}.",
        f"Intervals of scores: percentile bootstrap of the mean over seeds, {evaluate.bootstrap_samples:,} samples of "
        f"the rows, the same samples for every model and seed; {evaluate.confidence_level:.0%}.",
        *(_tests(tests, params) if tests else ()),
        "metrics/runs/ has the scores of each seed, build/predictions/ the predictions, and metrics/summary.json the "
        "scores and tests of this page.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _tests(tests: int, params: Params) -> Iterator[str]:
    swaps, alpha, margin = params.report.permutations, params.report.alpha, params.report.equivalence_margin
    yield (
        f"Differences: paired permutation test with {swaps:,} swaps, two-sided, the same rows swapped in all seeds; "
        f"Holm's correction over all {tests} comparisons of the table (identical predictions are tested once); "
        f"significant at a corrected p of at most {alpha:g}. The interval of a difference comes from the same swaps at "
        "the same corrected level, so it excludes 0 exactly where the difference is significant."
    )
    yield (
        f"Equivalence: two one-sided tests (TOST) on the same swaps; equivalent within ±{margin:g} "
        "(`report.equivalence_margin`) where the interval lies inside, on enough dev rows that a disagreement on "
        f"{margin:.2g} of the rows would have shown. Any other difference is undecided."
    )
    yield (
        "Overall: the mean over tasks of each task's score on 0..1, where a correlation r (and mcc) counts as "
        "(r + 1) / 2; single-task has the same tasks."
    )
    if tests / (swaps + 1) > alpha:
        yield (
            f"**Too few permutations**: with {tests} comparisons and {swaps} swaps no corrected p can reach {alpha:g}. "
            "Raise `report.permutations` in params.yaml."
        )
