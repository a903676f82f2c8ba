"""Where a corpus comes from: the bundled one, the CS224N release at a pinned commit, or the user's own files.

All have the same form: the files that `tasks` names, in one folder. A task may also name a file by its URL.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from yourbert.config.schema import BUNDLED, CS224N
from yourbert.core.errors import Problem, UserError, fail, nearest
from yourbert.core.filenames import is_url, local_names, shown
from yourbert.core.storage import MANIFEST, link_or_copy, read_json, replacing, write_manifest
from yourbert.download.fetch import Fetched, fetch, probe
from yourbert.download.http import LOGGER, USUAL, Patience
from yourbert.download.store import Cache

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
UNREACHABLE = ("W03", "W04", "W06")
OWN_FOLDER_FIX = "offline? put the files in a folder and set `corpus: <that folder>`"


def fetch_corpus(
    corpus: str,
    wanted: Mapping[str, bool],
    folder: Path,
    bundled: Path,
    cache: Path,
    *,
    previous: Mapping[str, Any] | None = None,
    patience: Patience = USUAL,
) -> dict[str, Any]:
    """Places the files of a corpus in `folder`, with a manifest.

    corpus: "bundled" (the files in `bundled`), "cs224n", or a folder. wanted: file name or URL -> whether it must
    be there. previous: the manifest of an earlier run, to tell what changed.
    Returns `corpus`, `source`, `revision`, `files` (name -> sha256), `missing` (of the files that need not be
    there) and `notes` (lines worth reading).
    Raises UserError: D29 naming every file that is missing or unreadable, P15 for names that cannot be used, W
    codes as `fetch`, R07 (disk).
    """
    names = local_names(wanted)
    urls = {name: file for file, name in names.items() if is_url(file)}
    plain = {name: wanted[name] for name in names.values() if name not in urls}
    folder.mkdir(parents=True, exist_ok=True)
    store = Cache(cache)
    if corpus == CS224N:
        source = _cs224n_address()
        missing = _from_cs224n(plain, folder, store, patience)
    else:
        source = str(bundled if corpus == BUNDLED else corpus)
        missing = _from_folder(bundled if corpus == BUNDLED else Path(corpus).expanduser(), plain, folder, corpus)
    missing += [n for n, url in urls.items() if not _from_url(url, wanted[url], folder / n, store, patience)]
    for name in missing:  # it may be there from another corpus
        (folder / name).unlink(missing_ok=True)
    write_manifest(folder)
    manifest = read_json(folder / MANIFEST)
    notes = [f"{name} is not in the corpus; what it is for is left out" for name in missing]
    notes += changes(previous, manifest) if previous is not None else []
    return {
        "corpus": corpus,
        "source": source,
        "revision": CS224N_COMMIT if corpus == CS224N else "",
        "files": {name: entry["sha256"] for name, entry in manifest.items()},
        "missing": missing,
        "notes": notes,
    }


def changes(previous: Mapping[str, Any], manifest: Mapping[str, Any]) -> list[str]:
    """What differs between two manifests, one line per file."""
    notes = [f"{name} was there in the last run and is gone" for name in previous if name not in manifest]
    for name, entry in manifest.items():
        before = previous.get(name)
        if before is None:
            notes.append(f"{name} is new since the last run")
        elif before["sha256"] != entry["sha256"]:
            hashes = f"sha256 {before['sha256'][:12]}… is now {entry['sha256'][:12]}…"
            notes.append(f"{name} changed since the last run ({hashes})")
    return notes


def _from_folder(place: Path, files: Mapping[str, bool], folder: Path, corpus: str) -> list[str]:
    """Copies files; returns which optional ones are missing.

    A link would hand the user's own files to DVC, which makes them read-only and trusts them not to change.
    """
    fix = "run `dvc checkout data.dvc`" if corpus == BUNDLED else "correct `corpus` in params.yaml"
    if not place.is_dir():
        fail("D29", "the folder of the corpus is not there", where=str(place), fix=fix)
    there = sorted(p.name for p in place.iterdir())
    problems, missing = [], []
    for name, required in files.items():
        problem = _problem_with(place / name, there)
        if problem is None:
            with replacing(folder / name) as temporary:
                shutil.copyfile(place / name, temporary)
        elif required or name in there:
            problems.append(problem)
        else:
            missing.append(name)
    if problems:
        raise UserError(problems)
    return missing


def _problem_with(path: Path, there: Iterable[str]) -> Problem | None:
    if not path.exists():
        what = f"the file is missing{nearest(path.name, there)}"
        return Problem("D29", what, str(path), "put it there, or correct its name in params.yaml")
    if not path.is_file():
        return Problem("D29", "this is not a regular file", str(path), "put the file itself there")
    if not os.access(path, os.R_OK):
        return Problem("D29", "the file cannot be read", str(path), "change its permissions")
    return None


def _cs224n_address() -> str:
    return os.environ.get("YOURBERT_CS224N_URL", "").rstrip("/") or CS224N_URL


def _from_cs224n(files: Mapping[str, bool], folder: Path, cache: Cache, patience: Patience) -> list[str]:
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
            target = cache.place("git", blob)
            _fetch_or_advise(f"{_cs224n_address()}/{name}", target, patience, git_blob=blob)
            link_or_copy(target, folder / name)
    return unknown


def _from_url(url: str, required: bool, target: Path, cache: Cache, patience: Patience) -> bool:
    """Fetches one file unless the cache has the version that the server has now; False if it is not there."""
    known = cache.recall("urls", url) or {"etag": "", "sha256": ""}
    kept = cache.find(known["sha256"])
    try:
        now = _etag(url, patience) if kept else ""
        if kept is None or not now or now != known["etag"]:
            fetched = _fetch_or_advise(url, cache.incoming(url), patience)
            etag = "" if fetched.etag.startswith("W/") else fetched.etag
            cache.remember("urls", url, {"etag": etag, "sha256": cache.add(fetched.path)})
            kept = cache.place("sha256", fetched.sha256)
    except UserError as error:
        if error.problems[0].code == "W01" and not required:
            return False
        if kept is None or error.problems[0].code != "W03":
            raise
        LOGGER.info("%s: %s; the copy of an earlier run is used", shown(url), error.problems[0].what)
    link_or_copy(kept, target)
    return True


def _etag(url: str, patience: Patience) -> str:
    """The server's word for the version it has; "" if it does not say, so that a GET must tell."""
    try:
        return probe(url, patience=patience).get("etag", "")
    except UserError as error:
        if error.problems[0].code == "W01":
            return ""
        raise


def _fetch_or_advise(url: str, target: Path, patience: Patience, git_blob: str | None = None) -> Fetched:
    """`fetch`, with the advice for those who are offline."""
    try:
        return fetch(url, target, git_blob=git_blob, patience=patience)
    except UserError as error:
        problem = error.problems[0]
        fix = OWN_FOLDER_FIX if problem.code in UNREACHABLE else problem.fix
        raise UserError([replace(problem, fix=fix)]) from None
