"""Changes to params.yaml as a person would make them: comments stay, and a file that would be wrong is not written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yourbert.config.params import read_params


def add_to(path: Path, block: str, entries: dict[str, Any]) -> None:
    """Adds entries to a block at the top of params.yaml, in DVC's own form. Raises UserError as `read_params` does."""
    from dvc.utils.serialize import modify_yaml

    before = path.read_bytes()
    try:
        with modify_yaml(path) as values:
            values[block] = values.get(block) or {}
            values[block].update(entries)
        read_params(path)
    except BaseException:
        path.write_bytes(before)
        raise
