"""The tables of the report, and the formatting of text and numbers in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from tabulate import tabulate

from yourbert.core.tasks import Split
from yourbert.evaluation.significance import Comparison
from yourbert.report.load import Gathered
from yourbert.report.published import OVERALL as STUDY_OVERALL
from yourbert.report.published import OVERALL_TASKS, STUDY
from yourbert.report.results import SINGLE_TASK, Cell, Figures
from yourbert.report.scores import scored

NOTHING = "-"
MARKUP = re.compile(r"([\\`*\[\]|#~])|((?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # the first characters of cells that spreadsheets evaluate
TAGS = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
Row = list[str]


def plain(text: object) -> str:
    """A text escaped for Markdown, also within a table: no markup, no HTML, on one line."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))
    return MARKUP.sub(r"\\\g<0>", shown).translate(TAGS)


def inert(text: str) -> str:
    """A CSV cell that spreadsheets do not evaluate: a formula gets a quotation mark in front."""
    return f"'{text}" if text[:1] in FORMULA else text


def table(header: Sequence[str], rows: Sequence[Row], left: int = 1) -> str:
    """A GitHub Markdown table; the first `left` columns are aligned left, the others right.

    tabulate's format "pipe" is its "github" with colons for the alignment.
    """
    align = ["left" if column < left else "right" for column in range(len(header))]
    return tabulate(rows, header, tablefmt="pipe", disable_numparse=True, colalign=align if rows else None)


def number(value: float | None, sign: bool = False) -> str:
    """A score with three digits, or a dash; a small difference (`sign`) gets a fourth digit, so that it is not 0."""
    if value is None:
        return NOTHING
    digits = 4 if sign and 0.00005 <= abs(value) < 0.0005 else 3
    return f"{round(value, digits) + 0.0:{'+' if sign else ''}.{digits}f}"


def count(value: Any) -> str:
    """A count with thousands separators, or a dash."""
    return f"{value:,.0f}" if isinstance(value, int | float) else NOTHING


def p_value(p: float) -> str:
    return "p < 0.001" if p < 0.0005 else f"p = {p:.3f}"


def score(cell: Cell | None) -> str:
    """`mean ± sd (low to high)`; without the sd for a single seed."""
    if cell is None:
        return "undefined"
    sd = "" if cell.sd is None else f" ± {number(cell.sd)}"
    return f"{number(cell.mean)}{sd} ({number(cell.low)} to {number(cell.high)})"


def model_name(run: str, task: str) -> str:
    """The name of a model in the report, in the context of a task."""
    return "single-task model" if run in (task, SINGLE_TASK) else run


def margin_of(comparison: Comparison) -> str:
    return f"within {comparison.margin:g}"


def difference(comparison: Comparison) -> str:
    """`difference (low to high)`, at the corrected level of the comparison."""
    ends = (number(end, sign=True) for end in (comparison.low, comparison.high))
    return f"{number(comparison.difference, sign=True)} ({' to '.join(ends)})"


def verdict(comparison: Comparison | None) -> str:
    if comparison is None:
        return NOTHING
    if comparison.identical:
        return "same predictions"
    words = {"better": "significantly better", "worse": "significantly worse"}
    margin = f" {margin_of(comparison)}" if comparison.verdict == "equivalent" else ""
    return f"{words.get(comparison.verdict, comparison.verdict)}{margin}, {p_value(comparison.p_holm)}"


def scores_table(gathered: Gathered, figures: Figures, split: Split) -> str:
    """A row for each task and model, and for each overall score and model; on dev with the test results."""
    tested = split == "dev" and bool(gathered.mixtures)
    header = ["task", "score", "model", split, *(["vs. single-task", "verdict"] if tested else [])]
    rows = []
    for one in scored(gathered, figures, split):
        for run, cell in one.cells.items():
            comparison = one.comparisons.get(run)
            shown = [NOTHING if comparison is None else difference(comparison), verdict(comparison)]
            name = "single-task" if run == SINGLE_TASK else plain(run)
            rows.append([plain(one.name), one.metric, name, score(cell), *shown][: len(header)])
    return table(header, rows, left=3)


def study_rows(gathered: Gathered) -> list[str]:
    """The tasks that the paper has under the same name, with the same metric."""
    return [t for t, facts in gathered.tasks.items() if t in STUDY and facts.metric == STUDY[t].metric]


def study_table(gathered: Gathered, figures: Figures) -> str:
    """The paper's scores and ours in pairs of columns."""
    mixtures = list(gathered.mixtures)
    header = ["task", "paper: single-task", "ours: single-task", "paper: multi-task"]
    header += [f"ours: {plain(mixture)}" for mixture in mixtures]
    header += ["paper: literature", "paper: single-task, test", "ours: single-task, test"]
    rows = [_study_row(gathered, figures, task, mixtures) for task in study_rows(gathered)]
    return table(header, rows + _study_overall(gathered, figures, mixtures))


def _study_row(gathered: Gathered, figures: Figures, task: str, mixtures: Sequence[str]) -> Row:
    theirs, cells = STUDY[task], figures.cells
    ours = [number(_mean(cells.get((task, "dev", run)))) for run in (task, *mixtures)]
    test = number(_mean(cells.get((task, "test", task))))
    return [
        f"{plain(task)} ({theirs.metric})",
        number(theirs.single),
        ours[0],
        number(theirs.mixture),
        *ours[1:],
        number(theirs.baseline),
        number(theirs.test),
        test,
    ]


def _study_overall(gathered: Gathered, figures: Figures, mixtures: Sequence[str]) -> list[Row]:
    """One line where a mixture has exactly the paper's three tasks."""
    same = [m for m in mixtures if frozenset(gathered.runs[m]) == OVERALL_TASKS]
    if not same or not set(study_rows(gathered)) >= OVERALL_TASKS:
        return []
    overall = figures.overall
    ours = [number(_mean(overall.get(("dev", m, m)))) if m in same else NOTHING for m in mixtures]
    single, test = (number(_mean(overall.get((split, same[0], SINGLE_TASK)))) for split in ("dev", "test"))
    return [
        [
            "overall",
            number(STUDY_OVERALL["single"]),
            single,
            number(STUDY_OVERALL["mixture"]),
            *ours,
            number(STUDY_OVERALL["baseline"]),
            number(STUDY_OVERALL["test"]),
            test,
        ]
    ]


def _mean(cell: Cell | None) -> float | None:
    return None if cell is None else cell.mean


def training_table(gathered: Gathered) -> str:
    """Steps, tokens, best epoch and trained parameters of each model, means over its seeds."""
    keys = ("steps", "tokens", "best_epoch", "parameters")
    rows = [
        [plain(run), plain(", ".join(gathered.runs[run])), *(_seeds_mean(_values(seeds, key)) for key in keys)]
        for run, seeds in gathered.training.items()
    ]
    return table(["model", "tasks", "steps", "tokens", "best epoch", "parameters trained"], rows, left=2)


def _values(seeds: Iterable[Mapping[str, Any]], key: str) -> list[float]:
    return [one[key] for one in seeds if isinstance(one.get(key), int | float)]


def _seeds_mean(values: Sequence[float]) -> str:
    """The mean over seeds, with a decimal only where it is not a whole number."""
    if not values:
        return NOTHING
    mean = fmean(values)
    return f"{mean:,.0f}" if mean == int(mean) else f"{mean:,.1f}"
