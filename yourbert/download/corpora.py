"""Fetches a corpus: the bundled one, the CS224N release at a pinned commit, or a folder of the user.

A corpus is a folder with the files that `tasks` in params.yaml names. A task may also name a file by its URL.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from yourbert.config.schema import BUNDLED, CS224N
from yourbert.core.errors import Problem, UserError, fail, nearest
from yourbert.core.filenames import is_url, local_names, shown
from yourbert.core.storage import replacing, write_manifest
from yourbert.download.web import fetch, git_blob_of

logger = logging.getLogger("yourbert")
CS224N_COMMIT = "7ac8260577fc12a86c7aaf38918056c30054ef39"
CS224N_URL = f"https://raw.githubusercontent.com/gpoesia/minbert-default-final-project/{CS224N_COMMIT}/data"
# Name -> git blob id at that commit.
CS224N_FILES = {
    "ids-cfimdb-dev.csv": "8a0f5dcf3d40189b96c801a12cd79bf8003e61de",
    "ids-cfimdb-test-student.csv": "1e789c709b3ca0511f027a309b6d8bd21cde41b2",
    "ids-cfimdb-train.csv": "cd57bcbd2f7214ea6dd1783d3e885d324b1f478d",
    "ids-sst-dev.csv": "3171aa629a340809d2db4a50df8f6e5ec9420ab0",
    "ids-sst-test-student.csv": "bbd2313758825f86e24416d6aad64cd93370cf7a",
    "ids-sst-train.csv": "9cb7333cb1dae49c2bd2a4b56a24882a6e8704b5",
    "quora-dev.csv": "de7cfa32428fd470b93f778fccc45a619e01336f",
    "quora-test-student.csv": "f257ef00558555afb50819578a58205732b16354",
    "quora-train.csv": "a3b5546f6a0e65b60a328a5d294d1038f5bed1da",
    "sts-dev.csv": "9392860e584717976b8d817cc40c9e6ceeec27e0",
    "sts-test-student.csv": "25f0cf8fafdd1f82b9e2bb460c708af34341ce60",
    "sts-train.csv": "12b17760e7795fee35aeeabc290d5651de02622a",
}
OWN_FOLDER_FIX = "offline? put the files in a folder and set `corpus: <that folder>`"


def fetch_corpus(corpus: str, wanted: Mapping[str, bool], folder: Path, bundled: Path, cache: Path) -> None:
    """Copies the files of a corpus to `folder`, and writes a manifest.

    corpus: "bundled" (the files in `bundled`), "cs224n", or a folder. wanted: file name or URL -> whether it is
    required. cache: the folder for downloaded files.
    Raises UserError: D29 for every file that is missing or unreadable, P15 for invalid names, W.. and R07 as `fetch`.
    """
    names = local_names(wanted)
    urls = {name: file for file, name in names.items() if is_url(file)}
    plain = {name: wanted[name] for name in names.values() if name not in urls}
    folder.mkdir(parents=True, exist_ok=True)
    if corpus == CS224N:
        source = _cs224n_address()
        missing = _from_cs224n(plain, folder, cache / "corpora")
    else:
        source = str(bundled if corpus == BUNDLED else corpus)
        missing = _from_folder(bundled if corpus == BUNDLED else Path(corpus).expanduser(), plain, folder, corpus)
    missing += [n for n, url in urls.items() if not _from_url(url, wanted[url], folder / n, cache / "corpora")]
    for name in missing:  # it may exist from an earlier corpus
        (folder / name).unlink(missing_ok=True)
        logger.info("%s is not in the corpus; its split is omitted", name)
    write_manifest(folder)
    logger.info("corpus %s: %d files from %s", corpus, len(names) - len(missing), source)


def _from_folder(source: Path, files: Mapping[str, bool], folder: Path, corpus: str) -> list[str]:
    """Copies files; returns the names of missing optional ones.

    Copies, not links: DVC makes its outputs read-only and relies on them not changing.
    """
    fix = "run `dvc checkout data.dvc`" if corpus == BUNDLED else "correct `corpus` in params.yaml"
    if not source.is_dir():
        fail("D29", "the folder of the corpus does not exist", where=str(source), fix=fix)
    existing = sorted(p.name for p in source.iterdir())
    problems, missing = [], []
    for name, required in files.items():
        problem = _problem_with(source / name, existing)
        if problem is None:
            _copy(source / name, folder / name)
        elif required or name in existing:
            problems.append(problem)
        else:
            missing.append(name)
    if problems:
        raise UserError(problems)
    return missing


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as part:
        shutil.copyfile(source, part)


def _problem_with(path: Path, existing: Iterable[str]) -> Problem | None:
    if not path.exists():
        what = f"the file is missing{nearest(path.name, existing)}"
        return Problem("D29", what, str(path), "add it, or correct its name in params.yaml")
    if not path.is_file():
        return Problem("D29", "this is not a regular file", str(path), "replace it by a file")
    if not os.access(path, os.R_OK):
        return Problem("D29", "the file cannot be read", str(path), "change its permissions")
    return None


def _cs224n_address() -> str:
    return os.environ.get("YOURBERT_CS224N_URL", "").rstrip("/") or CS224N_URL


def _from_cs224n(files: Mapping[str, bool], folder: Path, cache: Path) -> list[str]:
    unknown = [name for name in files if name not in CS224N_FILES]
    problems = [
        Problem("D29", f"the release has no '{name}'{nearest(name, CS224N_FILES)}", "params.yaml: tasks", "correct it")
        for name in unknown
        if files[name]
    ]
    if problems:
        raise UserError(problems)
    for name in files:
        if name not in unknown:
            blob = CS224N_FILES[name]
            cached = cache / blob
            if not (cached.is_file() and git_blob_of(cached) == blob):
                _fetch_or_advise(f"{_cs224n_address()}/{name}", cached, blob)
            _copy(cached, folder / name)
    return unknown


def _from_url(url: str, required: bool, target: Path, cache: Path) -> bool:
    """Downloads one file again, since it may have changed; False if it is optional and the server does not have it.

    If the server is unreachable, the copy of an earlier run is used.
    """
    cached = cache / hashlib.sha256(url.encode()).hexdigest()[:32]
    try:
        _fetch_or_advise(url, cached)
    except UserError as error:
        problem = error.problems[0]
        if problem.code == "W01" and not required:
            return False
        if problem.code != "W03" or not cached.is_file():
            raise
        logger.info("%s: %s; using the copy of an earlier run", shown(url), problem.what)
    _copy(cached, target)
    return True


def _fetch_or_advise(url: str, target: Path, git_blob: str = "") -> None:
    """`fetch`, whose network errors advise to use a local folder."""
    try:
        fetch(url, target, git_blob)
    except UserError as error:
        problem = error.problems[0]
        raise UserError([replace(problem, fix=OWN_FOLDER_FIX) if problem.code == "W03" else problem]) from None
