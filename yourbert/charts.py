"""What every chart is drawn with: SVG without date or random names, so the same figures give the same bytes.

Matplotlib is loaded when the first chart is drawn.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

# Okabe and Ito's colours, which stay apart for the colour-blind.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#e69f00", "#56b4e9", "#cc79a7", "#999999", "#000000")


def canvas(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    """A figure of so many inches, and its axes: one, or an array of `columns` side by side."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"svg.hashsalt": "yourbert", "svg.fonttype": "none", "font.size": 8})
    drawn: tuple[Any, Any] = plt.subplots(1, columns, figsize=(width, height))
    return drawn


def save(figure: Any, path: Path) -> None:
    """Writes the figure and forgets it."""
    import matplotlib.pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
