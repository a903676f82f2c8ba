"""Pages whose prose is written by hand and whose figures come from a command: a part between two marks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from yourbert.core.errors import fail
from yourbert.core.storage import write_text

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def fill(page: Path, parts: Sequence[str]) -> None:
    """Rewrites what stands between the marks. Raises UserError (C01) when they are missing."""
    text = page.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        fail("C01", f"the page lacks the marks {BEGIN} and {END}", where=str(page), fix="put them back")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    write_text(page, "\n\n".join([before + BEGIN, *parts, END + after]))
