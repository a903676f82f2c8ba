"""DVC's state files: .dvc/tmp/rwlock, which lists the processes that use each file, and dvc.lock."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import yaml

from yourbert.core.storage import replacing
from yourbert.doctor.trouble import Trouble, kept_aside

MARKS = ("<<<<<<<", "=======", ">>>>>>>")


def state_troubles(root: Path) -> Iterator[Trouble]:
    yield from _rwlock(root)
    yield from _dvc_lock(root)


def _rwlock(root: Path) -> Iterator[Trouble]:
    path = root / ".dvc" / "tmp" / "rwlock"
    try:
        whole = isinstance(json.loads(path.read_text(encoding="utf-8")), dict)
    except FileNotFoundError:
        return
    except ValueError:
        whole = False
    if not whole:
        what = "DVC's lock of files in use is corrupt, probably from a kill; every DVC command fails"
        yield Trouble("V01", what, _name(root, path), "remove it", path.unlink)


def _dvc_lock(root: Path) -> Iterator[Trouble]:
    path = root / "dvc.lock"
    if not path.exists():
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    committed = _committed(root)
    advice = (
        "restore the committed version" if committed else "remove it; `dvc repro` writes it again from its run cache"
    )

    def repair() -> None:
        kept_aside(root, path)
        if committed:
            with replacing(path) as part:
                part.write_bytes(committed)

    lines = [str(n) for n, line in enumerate(text.splitlines(), start=1) if line.startswith(MARKS)]
    if lines:
        what = f"it contains two versions, from a merge (lines {', '.join(lines[:6])})"
        yield Trouble("V03", what, "dvc.lock", f"{advice}, then `dvc repro`", repair)
    elif not _is_lock(text):
        yield Trouble(
            "V02", "it is empty or truncated, probably from a kill or a full disk", "dvc.lock", advice, repair
        )


def _is_lock(text: str) -> bool:
    """Whether DVC can read it; a truncated file may still be YAML, with an empty size at its end."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from voluptuous import Invalid

    try:
        COMPILED_LOCKFILE_SCHEMA(yaml.safe_load(text))
    except (yaml.YAMLError, Invalid):
        return False
    return True


def _committed(root: Path) -> bytes:
    """dvc.lock of the last commit; b"" if it has none or a truncated one."""
    done = subprocess.run(["git", "show", "HEAD:./dvc.lock"], cwd=root, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 and _is_lock(done.stdout.decode(errors="replace")) else b""


def _name(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
