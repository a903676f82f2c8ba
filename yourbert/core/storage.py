"""Atomic reading and writing of artefacts: JSON, CSV, npy and safetensors.

Every file is written beside its final name, flushed to the disk and renamed over it, so that a reader sees
the old file or the new one, never half of one. No format can run code: no pickle.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import psutil

from yourbert.core.errors import fail

if TYPE_CHECKING:
    import torch

MANIFEST = "manifest.json"
# Names of temporary files (`replacing`, `scratch`): a killed process may leave one, and it is no artefact.
UNFINISHED = re.compile(r"\..+\.(?P<pid>\d+)\.part")
# Unfinished files, and what .dvcignore hides: compiled Python, and what editors and merges leave.
HIDDEN_NAME = re.compile(
    rf"{UNFINISHED.pattern}|__pycache__|.*\.pyc|\..*\.sw[op]|.*~|\.#.*|\.DS_Store|.*\.(orig|rej)|\.ipynb_checkpoints"
)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it is flushed and renamed to `path`, else removed.

    The folder is flushed, too; otherwise a power failure may lose the new name. Raises UserError (R07).
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        _flush(part)
        part.replace(path)
        _flush(path.parent)
    except OSError as error:
        fail("R07", f"cannot write: {error.strerror or error}", where=str(path), fix="free space or permissions there")
    finally:
        with suppress(OSError):  # where no folder could be made there is nothing to remove
            part.unlink(missing_ok=True)


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A temporary folder inside `folder`, removed after the block; folders that killed processes left go first."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(".scratch-*.part"):
            if not psutil.pid_exists(int(leftover.name.split(".")[-2])):
                shutil.rmtree(leftover, ignore_errors=True)
        place = Path(tempfile.mkdtemp(f".{os.getpid()}.part", ".scratch-", folder))
    except OSError as error:
        what = f"cannot write: {error.strerror or error}"
        fail("R07", what, where=str(folder), fix="free space or permissions there")
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _flush(path: Path) -> None:
    """Waits until the content of a file, or the entries of a folder, are on the disk.

    Windows flushes only files that are open for writing, and opens no folders.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except PermissionError:
        if not path.is_dir():
            raise
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: object) -> None:
    """Writes `value` with sorted keys and a final newline; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises UserError (C01)."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        fail("C01", "the file is missing", where=str(path), fix="run `dvc repro` to make it")
    except (ValueError, RecursionError) as error:
        fail("C01", f"not valid JSON ({error})", where=str(path), fix="remove it and run `dvc repro`")
    if not isinstance(value, dict):
        fail("C01", "not a JSON object", where=str(path), fix="remove it and run `dvc repro`")
    return value


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]], delimiter: str = ",") -> None:
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def write_array(path: Path, array: npt.NDArray[Any]) -> None:
    with replacing(path) as part, part.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def read_array(path: Path) -> npt.NDArray[Any]:
    """Maps a `.npy` file into memory, read-only; opening is fast at any size. Raises UserError (C01)."""
    try:
        return _mapped(path)
    except FileNotFoundError:
        fail("C01", "the file is missing", where=str(path), fix="run `dvc repro` to make it")
    except (ValueError, EOFError, BadZipFile) as error:
        fail("C01", f"not a readable array ({error})", where=str(path), fix="remove it and run `dvc repro`")


def _mapped(path: Path) -> npt.NDArray[Any]:
    """Maps an array; one without elements cannot be mapped and is read instead."""
    array: npt.NDArray[Any]
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:
        array = np.load(path, allow_pickle=False)
        if array.size:
            raise
    if not isinstance(array, np.ndarray):
        raise ValueError("an archive of several")
    return array


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with replacing(path) as part:
        try:
            save_file({name: t.detach().contiguous() for name, t in tensors.items()}, part, dict(metadata or {}))
        except SafetensorError as error:  # its writer has no other class for a full disk
            raise OSError(str(error)) from error
        part.chmod(0o666 & ~_umask())  # it makes the file for its owner alone


def _umask() -> int:
    """What the process takes from the permissions of new files; it can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file. Raises UserError (C01)."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except FileNotFoundError:
        fail("C01", "the file is missing", where=str(path), fix="run `dvc repro` to make it")
    except SafetensorError as error:
        fail("C01", f"not a readable safetensors file ({error})", where=str(path), fix="remove it and run `dvc repro`")


def read_tensors_metadata(path: Path) -> dict[str, str]:
    """The metadata that `write_tensors` stored with the tensors."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return dict(file.metadata() or {})


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path) -> None:
    """Records size and sha256 of every file below `folder`, so that `check_manifest` notices any change."""
    entries = {
        p.relative_to(folder).as_posix(): {"bytes": p.stat().st_size, "sha256": sha256_of(p)}
        for p in _artefacts(folder)
    }
    write_json(folder / MANIFEST, entries)


def folder_hash(path: Path) -> str:
    """One sha256 over the names and contents of the files below a folder, or over the content of a file.

    Files that .dvcignore hides do not count, so that a hash of code changes exactly when DVC reruns its stages.
    """
    if path.is_file():
        return sha256_of(path)
    lines = "".join(f"{sha256_of(p)} {p.relative_to(path).as_posix()}\n" for p in _artefacts(path))
    return hashlib.sha256(lines.encode()).hexdigest()


def _artefacts(folder: Path) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return sorted(p for p in files if not any(map(HIDDEN_NAME.fullmatch, p.relative_to(folder).parts)))


def check_manifest(folder: Path) -> None:
    """Raises UserError (C01) for a folder whose files differ from the record of `write_manifest`."""
    recorded = read_json(folder / MANIFEST)
    facts = [(e.get("bytes"), e.get("sha256")) if isinstance(e, dict) else (0, 0) for e in recorded.values()]
    if not all(isinstance(size, int) and isinstance(digest, str) for size, digest in facts):
        what = "this is not a valid manifest"
        fail("C01", what, where=str(folder / MANIFEST), fix="remove the folder and run `dvc repro`")
    for name, entry in recorded.items():
        path = folder / name
        if not path.is_file():
            fail("C01", "the file is missing", where=str(path), fix="run `dvc checkout`, or `dvc repro`")
        if path.stat().st_size != entry["bytes"] or sha256_of(path) != entry["sha256"]:
            what = f"the file differs from the one that was saved (its sha256 should be {entry['sha256'][:12]}…)"
            fail("C01", what, where=str(path), fix="remove it and run `dvc checkout`, or `dvc repro`")


def link_or_copy(source: Path, target: Path) -> None:
    """Places `source` at `target` by hard link where the file system allows it, else by copy."""
    with replacing(target) as part:
        try:
            os.link(source.resolve(), part)
        except OSError:
            shutil.copyfile(source, part)
