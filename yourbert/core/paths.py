"""The project folder, relative paths of params.yaml, and the cache folder that all projects share."""

from __future__ import annotations

import os
from pathlib import Path

from yourbert.core.errors import fail


def project_root() -> Path:
    """The folder that relative paths in params.yaml start from.

    An experiment of `dvc exp run --temp` or of the queue runs in a copy below `.dvc/tmp/exps`; paths to files outside
    the copy start from the project itself.
    """
    root = os.environ.get("DVC_ROOT", "")
    head, mark, _ = root.partition("/.dvc/tmp/exps/")
    return Path(head) if mark else Path.cwd()


def cache_folder() -> Path:
    """The folder of downloads and compiled kernels: $YOURBERT_CACHE, else `yourbert` in the user's cache folder."""
    if own := os.environ.get("YOURBERT_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "yourbert"


def located(path: str) -> Path:
    """The absolute path of a file or folder that params.yaml names. Raises UserError (P15) if it is missing."""
    place = (project_root() / path).resolve()
    if not place.exists():
        fail("P15", f"'{path}' does not exist (looked for {place})", where="params.yaml", fix="correct the path")
    return place
