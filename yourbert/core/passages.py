"""Plain text for pretraining: the lines of a .txt or .txt.gz file, or of all such files below a folder."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from pathlib import Path

from yourbert.core.errors import fail


def read_passages(path: Path) -> Iterator[str]:
    """The lines that are not blank, stripped. Raises UserError: D29 (no such file), D08 (not UTF-8 text)."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    files = [p for p in files if p.name.endswith((".txt", ".txt.gz"))]
    if not files:
        what, fix = "no .txt or .txt.gz file there", "name a text file or a folder with text files"
        fail("D29", what, where=f"pretrain.extra_text: {path}", fix=fix)
    for file in files:
        yield from _lines(file)


def _lines(file: Path) -> Iterator[str]:
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            for line in io.TextIOWrapper(stream, encoding="utf-8"):
                if line.strip():
                    yield line.strip()
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        fail("D08", f"not readable as UTF-8 text ({error})", where=str(file), fix="save it as UTF-8, plain or gzip")
