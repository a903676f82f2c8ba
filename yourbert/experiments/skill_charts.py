"""Where skills sit, as pictures: what grafted models keep, and how far the learnt masks of several tasks agree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from yourbert.experiments.skills import Line, Overlap
from yourbert.report.charts import COLOURS, canvas, save

STROKES = {"learnt": "-", "moved": ":"}


def draw_kept(lines: Sequence[Line], path: Path) -> None:
    """The dev score and the calibration error against the share of grafted weights; beside them the whole model's."""
    figure, panels = canvas(8, 3.6, columns=2)
    for run, colour in zip(dict.fromkeys(run for run, *_ in lines), COLOURS * len(lines), strict=False):
        for axes, value in zip(panels, ("score", "calibration"), strict=True):
            own = [(mask, share, getattr(one, value)) for name, mask, share, one in lines if name == run]
            for kind, stroke in STROKES.items():
                points = sorted((share, y) for mask, share, y in own if mask == kind and y is not None)
                if points:
                    axes.plot(*zip(*points, strict=True), stroke, marker=".", color=colour, label=f"{run}, {kind}")
            for mask, _, y in own:
                if mask == "all" and y is not None:
                    axes.axhline(y, color=colour, linewidth=0.7, alpha=0.6)
    for axes, what in zip(panels, ("dev score", "calibration error"), strict=True):
        axes.set_xscale("log")
        axes.set_xlabel("share of the encoder's weights that are grafted")
        axes.set_ylabel(f"{what}; thin lines: the whole model")
    panels[0].legend(fontsize=7)
    save(figure, path)


def draw_overlap(pairs: Sequence[Overlap], path: Path) -> None:
    """A matrix for each share: how much of the row's learnt mask the column's holds; by chance, the share."""
    shares = list(dict.fromkeys(share for _, _, share, _ in pairs))
    runs = list(dict.fromkeys(one for one, *_ in pairs))
    found = {(one, two, share): value for one, two, share, value in pairs}
    size = 1 + 0.45 * len(runs)
    figure, panels = canvas(size * len(shares), size, columns=len(shares))
    for axes, share in zip([panels] if len(shares) == 1 else panels, shares, strict=True):
        matrix = [[found[one, two, share] for two in runs] for one in runs]
        axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1)
        for row, values in enumerate(matrix):
            for column, value in enumerate(values):
                tone = "white" if value > 0.6 else "black"
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=tone)
        axes.set_xticks(range(len(runs)), runs, rotation=90)
        axes.set_yticks(range(len(runs)), runs)
        axes.set_title(f"{share:.4g} of the weights", fontsize=8)
    save(figure, path)
