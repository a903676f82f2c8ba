"""The commands that README and docs tell people to type."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.closure import ROOT

YOURBERT = [sys.executable, "-c", "from yourbert.cli import main; main()"]  # what the console script does
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = ("dvc", "yourbert", "make", "python", "pip")
STARTS = (*PROGRAMS, "eval")
FENCE = re.compile(r"^```console\n(.*?)^```", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


@dataclass(frozen=True)
class Shown:
    """A command as it is printed. block: in a block of its own, to be typed in the order of the page."""

    page: str
    text: str
    block: bool

    def __str__(self) -> str:
        return f"{self.page}: {self.text}"

    @property
    def programs(self) -> list[list[str]]:
        """The words of each of our programs in it."""
        words = shlex.split(self.text, comments=True)
        starts = [i for i, word in enumerate(words) if word in PROGRAMS and (not i or words[i - 1] in ("|", "&&", ";"))]
        ends = [
            next((i for i in range(at, len(words)) if words[i] in ("|", "&&", ";", ">")), len(words)) for at in starts
        ]
        return [words[at:end] for at, end in zip(starts, ends, strict=True)]


def shown() -> list[Shown]:
    """Every command of every page, once a page."""
    return list(dict.fromkeys(one for page in PAGES for one in _of(page)))


def _of(page: Path) -> Iterator[Shown]:
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT).as_posix()
    for block in FENCE.findall(text):
        joined = block.replace("\\\n", " ")
        for line in joined.splitlines():
            if line.startswith("$ "):
                yield Shown(name, line[2:].strip(), True)
    for span in SPAN.findall(FENCE.sub("", text)):
        if span.split()[0] in STARTS and len(span.split()) > 1:
            yield Shown(name, span, False)
