"""The report's first paragraph: per task the best tailoring, its dev score, and whether the lead is real."""

from __future__ import annotations

from collections.abc import Iterator

from yourbert.report.load import Gathered
from yourbert.report.results import OVERALL, OWN, Cell, Figures, Match
from yourbert.report.tables import number, p_value, plain


def answer(gathered: Gathered, figures: Figures) -> str:
    """One paragraph; a sentence per line of the source."""
    return "\n".join([*_mixtures(gathered, figures), *(_task(gathered, figures, task) for task in gathered.tasks)])


def _mixtures(gathered: Gathered, figures: Figures) -> Iterator[str]:
    """A sentence on each shared model as a whole."""
    for mixture, tasks in gathered.mixtures.items():
        own, shared = (figures.overall.get(("dev", mixture, run)) for run in (OWN, mixture))
        match = figures.matches.get((OVERALL, mixture))
        if own and shared and match:
            yield (
                f"**{plain(mixture)}**, one model for {_listed(tasks)}, is {_judged(match)} one model per task: "
                f"overall {number(shared.mean)} against {number(own.mean)} ({p_value(match.p)})."
            )


def _judged(match: Match) -> str:
    words = {"better": "better than", "worse": "worse than", "no real change": "not really different from"}
    return words[match.verdict]


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
    top = f"{metric} {number(cells[best].mean)}"
    if len(cells) == 1:
        return f"**{plain(task)}** has {_name(task, best)} alone: {top}."
    other = _rival(cells, task, best)
    match = figures.matches.get((task, other if best == task else best))
    return f"**{plain(task)}**: {_lead(task, best, other, top, cells, match)}"


def _rival(cells: dict[str, Cell], task: str, best: str) -> str:
    """What the best is compared with: the own model, or for that the best mixture."""
    if best != task and task in cells:
        return task
    return max((run for run in cells if run != best), key=lambda run: cells[run].mean)


def _lead(task: str, best: str, other: str, top: str, cells: dict[str, Cell], match: Match | None) -> str:
    first, second = _name(task, best), _name(task, other)
    gap = number(cells[best].mean - cells[other].mean)
    if match is None:
        return f"highest with {first}, {top}; {second} is {gap} lower (not compared)."
    if match.verdict == "no real change" and gap == number(0.0):
        return f"{first} and {second} score the same, {top}."
    if match.verdict == "no real change":
        return f"highest with {first}, {top}, but the lead of {gap} over {second} is not real ({p_value(match.p)})."
    return f"best served by {first}, {top}; the lead of {gap} over {second} is real ({p_value(match.p)})."


def _name(task: str, run: str) -> str:
    return "its own model" if run == task else plain(run)


def _status(gathered: Gathered, task: str) -> str:
    statuses = [one.status for (name, split, _), one in gathered.answers.items() if (name, split) == (task, "dev")]
    return plain(next((status for status in statuses if status), "undefined"))
