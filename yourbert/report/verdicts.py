"""The report's first paragraph: the best model of each task, its dev score, and what the tests say about the lead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from yourbert.evaluation.significance import Comparison
from yourbert.report.load import Gathered
from yourbert.report.results import OVERALL, SINGLE_TASK, Cell, Figures
from yourbert.report.tables import margin_of, model_name, number, p_value, plain


def summary_paragraph(gathered: Gathered, figures: Figures) -> str:
    """One paragraph; a line of the source for each multi-task model and each task."""
    return "\n".join([*_mixtures(gathered, figures), *(_task(gathered, figures, task) for task in gathered.tasks)])


def _mixtures(gathered: Gathered, figures: Figures) -> Iterator[str]:
    """A line on each multi-task model as a whole."""
    for mixture, tasks in gathered.mixtures.items():
        single, multi = (figures.overall.get(("dev", mixture, run)) for run in (SINGLE_TASK, mixture))
        comparison = figures.comparisons.get((OVERALL, mixture))
        if single and multi and comparison:
            scores = f"overall {number(multi.mean)} against {number(single.mean)}"
            yield f"**{plain(mixture)}**, one model for {_listed(tasks)}, {_against_single(comparison, scores)}"


def _against_single(comparison: Comparison, scores: str) -> str:
    p = f"{p_value(comparison.p_holm)} after Holm"
    if comparison.identical:
        return f"makes the same predictions as the single-task models on every dev row: {scores}."
    match comparison.verdict:
        case "better" | "worse":
            short = ", by less than the margin of equivalence" if _small(comparison) else ""
            return f"is significantly {comparison.verdict} than the single-task models: {scores} ({p}){short}."
        case "equivalent":
            return (
                f"is equivalent to the single-task models {margin_of(comparison)}: {scores} ({_interval(comparison)})."
            )
    return f"is not significantly different from the single-task models: {scores} ({p}). {_undecided(comparison)}"


def _small(comparison: Comparison) -> bool:
    return max(abs(comparison.low), abs(comparison.high)) < comparison.margin


def _interval(comparison: Comparison) -> str:
    return f"interval {number(comparison.low, sign=True)} to {number(comparison.high, sign=True)}"


def _undecided(comparison: Comparison) -> str:
    """What would decide it; both numbers are estimates, so two digits are shown."""
    if comparison.seeds_to_decide:
        return f"Undecided: about {comparison.seeds_to_decide:,} seeds would decide it, at this difference."
    if comparison.rows_to_decide:
        rows = float(f"{comparison.rows_to_decide:.2g}")
        return f"Undecided: about {rows:,.0f} dev rows would decide it, at this difference."
    return "Undecided."


def _listed(names: tuple[str, ...]) -> str:
    shown = [plain(name) for name in names]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _task(gathered: Gathered, figures: Figures, task: str) -> str:
    runs = [run for run in (task, *gathered.mixtures_of(task)) if (task, "dev", run) in figures.cells]
    cells = {run: figures.cells[task, "dev", run] for run in runs}
    metric = gathered.tasks[task].metric
    if not cells:
        return f"**{plain(task)}**: {metric} is {_status(gathered, task)}."
    best = max(cells, key=lambda run: cells[run].mean)
    score = f"{metric} {number(cells[best].mean)}"
    if len(cells) == 1:
        return f"**{plain(task)}**: {score} with {_name(task, best)}, the only one for this task."
    other = _rival(cells, task, best)
    comparison = figures.comparisons.get((task, other if best == task else best))
    return f"**{plain(task)}**: {_lead(task, best, other, score, cells, comparison)}"


def _rival(cells: Mapping[str, Cell], task: str, best: str) -> str:
    """The model that the best one is compared with: the single-task model, or for that the best other one."""
    if best != task and task in cells:
        return task
    return max((run for run in cells if run != best), key=lambda run: cells[run].mean)


def _lead(
    task: str, best: str, other: str, score: str, cells: Mapping[str, Cell], comparison: Comparison | None
) -> str:
    first, second = _name(task, best), _name(task, other)
    gap = number(cells[best].mean - cells[other].mean, sign=True).lstrip("+")
    if comparison is None:
        return f"best with {first} ({score}); {second} is {gap} lower (not tested)."
    if comparison.identical:
        return f"{first} and {second} make the same predictions on every dev row ({score})."
    lead = f"The lead of {gap} over {second} is"
    p = f"{p_value(comparison.p_holm)} after Holm"
    match comparison.verdict:
        case "better" | "worse":
            return f"best with {first} ({score}). {lead} statistically significant ({p})."
        case "equivalent":
            where = f"{margin_of(comparison)} ({_interval(comparison)})"
            return f"{first} ({score}) and {second} ({number(cells[other].mean)}) are equivalent {where}."
    return f"best with {first} ({score}). {lead} not statistically significant ({p}). {_undecided(comparison)}"


def _name(task: str, run: str) -> str:
    return f"the {model_name(run, task)}" if run == task else plain(run)


def _status(gathered: Gathered, task: str) -> str:
    statuses = [one.status for (name, split, _), one in gathered.predictions.items() if (name, split) == (task, "dev")]
    return plain(next((status for status in statuses if status), "undefined"))
