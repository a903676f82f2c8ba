"""Functions that all charts use: reproducible SVG, without dates and random ids.

Matplotlib is loaded when the first chart is drawn.
"""

from __future__ import annotations

import re
from html import escape
from io import StringIO
from pathlib import Path
from typing import Any

# The palette of Okabe and Ito, distinguishable with colour blindness.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#e69f00", "#56b4e9", "#cc79a7", "#999999", "#000000")


def canvas(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    """A figure with its size in inches, and its axes: one, or an array of `columns` side by side."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"svg.hashsalt": "yourbert", "svg.fonttype": "none", "font.size": 8})
    drawn: tuple[Any, Any] = plt.subplots(1, columns, figsize=(width, height))
    return drawn


def save(figure: Any, path: Path) -> None:
    """Writes the figure and closes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_drawn(figure), encoding="utf-8")


def inline(figure: Any, name: str, says: str) -> str:
    """The figure as SVG for an HTML page; closes it. Black becomes the text colour of the page.

    name: the prefix of all ids, unique on the page. says: the description for screen readers.
    """
    svg = _drawn(figure, transparent=True)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg).replace("#000000", "currentColor")
    svg = svg.replace("stroke: #b0b0b0", "stroke: currentColor; stroke-opacity: 0.15")
    # Text without a colour would be black.
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(says, quote=True)}" fill="currentColor" ', 1)


def _drawn(figure: Any, **how: Any) -> str:
    import matplotlib.pyplot as plt

    figure.tight_layout()
    file = StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None}, **how)
    plt.close(figure)
    return file.getvalue()
