"""Where the project lies, where a relative path of params.yaml leads, and where things are kept for all projects."""

from __future__ import annotations

import os
from pathlib import Path

from yourbert.core.errors import fail


def project_root() -> Path:
    """The folder that relative paths in params.yaml start from.

    An experiment of `dvc exp run --temp` or of the queue runs in a copy below `.dvc/tmp/exps` of the project; what
    lies outside the copy is found from the project itself.
    """
    root = os.environ.get("DVC_ROOT", "")
    head, mark, _ = root.partition("/.dvc/tmp/exps/")
    return Path(head) if mark else Path.cwd()


def cache_folder() -> Path:
    """Where fetched files and compiled kernels lie: $YOURBERT_CACHE, else `yourbert` in the user's cache folder."""
    if own := os.environ.get("YOURBERT_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "yourbert"


def located(path: str) -> Path:
    """An existing place named in params.yaml; relative to the project. Raises UserError (P15)."""
    place = (project_root() / path).resolve()
    if not place.exists():
        fail("P15", f"'{path}' does not exist (looked for {place})", where="params.yaml", fix="correct the path")
    return place
