"""Files that changed after they were saved: objects of DVC's cache, and model folders.

DVC names an object by the md5 of its content, makes it read-only, and does not verify it again: it links a truncated
object into the workspace. So every object is read here. The repair removes a damaged object, and with it the workspace
file that is linked to it, or the whole folder whose manifest lists that file; `dvc repro` then makes it again.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from yourbert.core.errors import UserError
from yourbert.core.storage import MANIFEST, check_manifest
from yourbert.doctor.trouble import Trouble, remove


def object_troubles(root: Path) -> Iterator[Trouble]:
    broken = [path for path in sorted(_objects(root)) if _md5(path) != _expected(path)]
    links = _links(root, broken) if broken else {}
    for path in broken:
        own = links[path]
        what = "the content of this object in DVC's cache does not match its name"
        if own:
            what += f"; the workspace has it as {', '.join(p.relative_to(root).as_posix() for p in own[:3])}"
        advice = (
            "remove both, then `dvc repro`" if own else "remove it; `dvc repro` computes it again where it is needed"
        )
        repair = partial(remove, [path, *dict.fromkeys(map(_whole, own))])
        yield Trouble("C09", what, os.path.relpath(path, root), advice, repair)
    yield from _folders(root, {p for own in links.values() for p in own})


def _objects(root: Path) -> Iterator[Path]:
    """The objects of the cache, whose location is configurable."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "cache", "dir"], cwd=root, capture_output=True, text=True, check=False
    )
    folder = Path(done.stdout.strip()) if done.returncode == 0 else root / ".dvc" / "cache"
    for path in (root / folder / "files" / "md5").glob("??/*"):
        if path.is_file() and not path.name.startswith("."):
            yield path


def _expected(path: Path) -> str:
    return path.parent.name + path.name.removesuffix(".dir")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _links(root: Path, objects: list[Path]) -> dict[Path, list[Path]]:
    """For each object the workspace files that are hard or symbolic links to it."""
    of = {(s.st_dev, s.st_ino): path for path in objects for s in [path.stat()]}
    found: dict[Path, list[Path]] = {path: [] for path in objects}
    for folder in ("build", "data"):
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and (own := of.get((path.stat().st_dev, path.stat().st_ino))):
                found[own].append(path)
    return found


def _folders(root: Path, seen: set[Path]) -> Iterator[Trouble]:
    """Folders whose files do not match their manifest, without files that were already named."""
    for manifest in sorted((root / "build").rglob(MANIFEST)):
        folder = manifest.parent
        if any(folder in path.parents for path in seen):
            continue
        try:
            check_manifest(folder)
        except UserError as error:
            problem = error.problems[0]
            where = os.path.relpath(problem.where, root)
            advice = f"remove {folder.relative_to(root).as_posix()}, then `dvc checkout` or `dvc repro`"
            yield Trouble(problem.code, problem.what, where, advice, partial(remove, [folder]))


def _whole(path: Path) -> Path:
    """The folder whose manifest lists the file; otherwise the file itself."""
    return next((folder for folder in path.parents if (folder / MANIFEST).exists()), path)
