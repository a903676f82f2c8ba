"""Result files as docs/performance.md shows them: `python -m benchmarks.render`.

Fills the part of the page between two marks with the tables of every file in benchmarks/results, and draws two plots of
each. The prose around it is written by hand. The same result files always give the same bytes.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmarks import goals, plots
from benchmarks.cases import NEEDS
from benchmarks.pages import fill
from benchmarks.results import RESULTS, Results, Spread
from yourbert.core.errors import exit_cleanly
from yourbert.core.storage import read_json

PAGE = Path("docs/performance.md")
NOTHING = "No result file is there yet: `make bench`, then `python -m benchmarks.render`."
STEPPING = ("train", "mlm", "runs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    given = parser.parse_args()
    render(given.results, given.page)


def render(results: Path, page: Path) -> None:
    """Rewrites the page's generated part and the plots beside it. Raises UserError: C01 when the marks are missing, P17
    when there is something to draw and nothing to draw it with."""
    read = {path.stem: read_json(path) for path in sorted(results.glob("*.json"))}
    # Other commands keep their figures in the same folder.
    found = {name: Results(facts) for name, facts in read.items() if "suite" in facts}
    parts = [_section(name, measured, page) for name, measured in found.items()]
    fill(page, parts or [NOTHING])


def _section(name: str, results: Results, page: Path) -> str:
    verdicts = goals.evaluate(results)
    # A suite without goals asks another question than how fast this is beside others: no plots of that.
    judged, drawn = (_goals(verdicts), _plots(name, results, page)) if verdicts else ([], [])
    parts = [f"## {name}", _machine(results), *judged, "### Steps", _steps(results), *drawn]
    return "\n\n".join([*parts, *_runs(results), *_left_out(results)])


def _machine(results: Results) -> str:
    facts, machine = results.facts, results.facts["machine"]
    versions = ", ".join(f"{name} {v}" for name, v in machine["packages"].items() if v)
    changed = f" with {machine['changed_files']} changed files" if machine["changed_files"] else ""
    where = f"{machine['processor']} (family/model {machine['family']})" + (
        f", {machine['gpu']}" * bool(machine["gpu"])
    )
    threads = ", ".join(map(str, machine["threads"]))
    return (
        f"`{facts['command']}`, {facts['minutes']} minutes on {where}, {machine['logical_cores']} logical cores, "
        f"{threads} threads for each variant, load average {machine['load_at_start']} before; rows of "
        f"`{facts['corpus']}`; revision {machine['revision']}{changed}; Python {machine['python']}, {versions}."
    )


def _goals(verdicts: Sequence[goals.Verdict]) -> list[str]:
    reached = sum(v.passed for v in verdicts)
    rows = [[*row[:3], f"**{row[3]}**" if row[3] == "short" else row[3]] for row in goals.table(verdicts)]
    return ["### Goals", f"{reached} of {len(verdicts)} reached.", _table(rows, ["goal", "target", "figure", ""])]


def _steps(results: Results) -> str:
    rows = []
    for case, variant in _answered(results, STEPPING):
        tokens, share = results.tokens_per_second(case, variant), results.share(case, variant)
        rows.append(
            [
                case,
                variant,
                _quartiles(results.milliseconds(case, variant), "{:.1f}"),
                _median(results.rows_per_second(case, variant), "{:.0f}"),
                _median(tokens, "{:.0f}"),
                _median(share, "{:.0%}"),
                _faster(results, case, variant),
                tokens.rounds if tokens else "",
            ]
        )
    head = ["case", "variant", "ms a step", "rows/s", "real tokens/s", "of the peak", "ours is", "rounds"]
    return _table(rows, head)


def _runs(results: Results) -> list[str]:
    rows = []
    for case, variant in _answered(results, ("predict", "tokenize", "start", "whole")):
        seconds = results.milliseconds(case, variant)
        assert seconds is not None, "it answered"
        thousandths = Spread(seconds.median / 1000, seconds.low / 1000, seconds.high / 1000, seconds.rounds)
        rows.append(
            [
                case,
                variant,
                _quartiles(thousandths, "{:.2f}"),
                _median(results.rows_per_second(case, variant), "{:.0f}") if _kind(results, case) != "start" else "",
                _faster(results, case, variant),
                results.note(case, variant),
                seconds.rounds,
            ]
        )
    head = ["case", "variant", "seconds", "rows/s", "ours is", "", "rounds"]
    return ["### Runs from texts", _table(rows, head)] if rows else []


def _left_out(results: Results) -> list[str]:
    rows = [[entry["case"], entry["variant"], entry["why"]] for entry in results.facts["left_out"]]
    return ["### Left out", _table(rows, ["case", "variant", "why"])] if rows else []


def _answered(results: Results, kinds: tuple[str, ...]) -> list[tuple[str, str]]:
    """The cases of these kinds in the suite's order, each with the variants that answered."""
    cases = [case for case in results.facts["cases"] if _kind(results, case) in kinds]
    return [(case, variant) for case in cases for variant in NEEDS if variant in results.variants(case)]


def _kind(results: Results, case: str) -> str:
    kind: str = results.facts["cases"][case]["kind"]
    return kind


def _faster(results: Results, case: str, variant: str) -> str:
    """How much faster ours is than this variant."""
    times = None if variant == "ours" else results.times(case, "ours", variant)
    return f"{times.median:.2f}x" if times else ""


def _median(spread: Spread | None, form: str) -> str:
    return form.format(spread.median) if spread else ""


def _quartiles(spread: Spread | None, form: str) -> str:
    if spread is None:
        return ""
    low, high = form.format(spread.low), form.format(spread.high)
    return form.format(spread.median) + (f" ({low} to {high})" if spread.rounds > 1 else "")


def _table(rows: list[list[Any]], head: list[str]) -> str:
    return tabulate(rows, head, tablefmt="pipe", disable_numparse=True)


def _plots(name: str, results: Results, page: Path) -> list[str]:
    """Draws the plots beside the page and gives the lines that show them."""
    drawn = []
    for what, draw in (("throughput", plots.throughput), ("scaling", plots.scaling)):
        path = page.with_name(f"{page.stem}-{name}-{what}.svg")
        if draw(results, path):
            text = re.sub(r"\s+", " ", draw.__doc__ or "").strip()
            drawn.append(f"![{text}]({path.name})")
    return drawn


if __name__ == "__main__":
    exit_cleanly(main)
