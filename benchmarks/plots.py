"""The two plots of a result file."""

from __future__ import annotations

from pathlib import Path

from benchmarks.cases import NEEDS
from benchmarks.results import Results
from yourbert.report.charts import canvas, save

# Colours that stay apart for the colour-blind, one for each variant, the same in every plot.
COLOURS = dict(zip(NEEDS, ("#0072b2", "#56b4e9", "#d55e00", "#e69f00", "#999999", "#009e73"), strict=False))


def throughput(results: Results, path: Path) -> bool:
    """Real tokens a second in training, by case and variant"""
    cases = _drawn(results)
    variants = [v for v in COLOURS if any(v in results.variants(case) for case in cases)]
    if not cases:
        return False
    figure, axes = canvas(7, 0.6 + 0.17 * sum(len(results.variants(case)) + 1 for case in cases))
    place, ticks, labelled = 0.0, [], set[str]()
    for case in cases:
        first = place
        for variant in variants:
            speed = results.tokens_per_second(case, variant)
            if speed is None:
                continue
            label = None if variant in labelled else variant
            labelled.add(variant)
            bars = axes.barh(place, speed.median, 0.9, color=COLOURS[variant], label=label)
            axes.bar_label(bars, [f"{speed.median:,.0f}"], fontsize=7, padding=2)
            place += 1
        ticks.append(((first + place - 1) / 2, case))
        place += 0.8
    axes.set_yticks([at for at, _ in ticks], [case for _, case in ticks])
    axes.invert_yaxis()
    axes.margins(x=0.1, y=0.01)
    axes.set_xlabel("real tokens a second")
    # Above the bars, where it hides none.
    axes.legend(fontsize=7, ncols=len(variants), loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
    save(figure, path)
    return True


def scaling(results: Results, path: Path) -> bool:
    """Seconds of a training step against its size, counted in matrix products; the line is the matmul peak"""
    cases = [case for case in _drawn(results) if results.facts["cases"][case]["kind"] == "train"]
    if not cases:
        return False
    figure, axes = canvas(7, 4)
    sizes: list[float] = []
    for variant, colour in COLOURS.items():
        points = sorted(point for case in cases for point in _points(results, case, variant))
        if points:
            axes.plot(*zip(*points, strict=True), "o", color=colour, label=variant, markersize=4, alpha=0.7)
            sizes += [size for size, _ in points]
    if peak := max((p["values"].get("bfloat16", p["values"]["float32"]) for p in results.facts["peaks"]), default=0):
        ends = [min(sizes), max(sizes)]
        axes.plot(ends, [1e9 * size / peak for size in ends], color="#000000", linewidth=1, label="matmul peak")
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.set_xlabel("GFLOP a step: size of the model times real tokens of the batch")
    axes.set_ylabel("seconds a step")
    axes.legend(fontsize=7)
    save(figure, path)
    return True


def _drawn(results: Results) -> list[str]:
    """The cases of training that anyone answered."""
    cases = results.facts["cases"]
    return [case for case in cases if cases[case]["kind"] in ("train", "mlm") and results.variants(case)]


def _points(results: Results, case: str, variant: str) -> list[tuple[float, float]]:
    """(GFLOP a step, seconds a step) of each round."""
    blocks = [b for b in results.facts["blocks"] if (b["case"], b["variant"]) == (case, variant) and b["flops"]]
    return [(b["flops"] / b["steps"] / 1e9, b["seconds"] / b["steps"]) for b in blocks]
