"""Transfers experiments between machines as git bundles: the repository out, an experiment's commit back.

A bundle is a repository in one file, so no server and no shared folder is needed. A DVC experiment is a commit under
`refs/exps/<start commit>/<name>` with params, metrics, curves and the report. Once fetched, it works with
`dvc exp show`, `dvc exp apply` and `dvc metrics diff` like a local one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from yourbert.core.errors import fail, nearest
from yourbert.experiments.git import HERE, experiment_ref, files_in, git

RUNS = "metrics/runs/"
Scores = dict[str, float]


def starting_commit() -> str:
    """The current commit. Raises UserError (X20, X21) for uncommitted changes or a shallow clone."""
    commit = git("rev-parse", "HEAD").decode().strip()
    if git("status", "--porcelain", "--untracked-files=no").strip():
        fail("X21", "the working tree has uncommitted changes", where="git status", fix="commit or stash them")
    if git("rev-parse", "--is-shallow-repository").strip() == b"true":
        fail("X21", "this is a shallow clone", fix="run `git fetch --unshallow`")
    return commit


def check_remote(name: str) -> None:
    """Raises UserError (X24) for a DVC remote that is not committed, or that is inside the repository.

    The clones on other machines see only committed settings, and are deleted after the run.
    """
    command = [sys.executable, "-m", "dvc", "config", "--project", "--list"]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    urls = [line.removeprefix("remote.").partition(".url=") for line in lines if line.startswith("remote.")]
    remotes = {remote: url for remote, separator, url in urls if separator}
    if name not in remotes:
        what = f"the project has no DVC remote '{name}'{nearest(name, remotes)}"
        fail("X24", what, where=".dvc/config", fix=f"dvc remote add {name} URL, and commit it")
    # DVC resolves a relative path from .dvc.
    if "://" not in remotes[name] and (HERE / ".dvc" / remotes[name]).resolve().is_relative_to(HERE.resolve()):
        fail("X24", f"'{name}' is inside the repository itself", where=".dvc/config", fix="choose a remote outside")


def bundle_repository() -> bytes:
    """The repository up to the current commit, as a bundle."""
    return git("bundle", "create", "--quiet", "-", "HEAD")


def check_out(folder: Path, repository: bytes, commit: str) -> None:
    """Makes `folder`, which may hold other files, a clone at `commit`."""
    git("init", "--quiet", at=folder)
    bundle = (folder / ".git" / "repository.bundle").resolve()
    bundle.write_bytes(repository)
    git("fetch", "--quiet", "--no-tags", str(bundle), "HEAD", at=folder)
    bundle.unlink()
    git("checkout", "--quiet", commit, at=folder)


def bundle_result(folder: Path, start: str, name: str) -> bytes:
    """The commit of an experiment in the clone `folder`, as a bundle without the history before `start`."""
    return git("bundle", "create", "--quiet", "-", experiment_ref(start, name), f"^{start}", at=folder)


def import_result(bundle: bytes, start: str, name: str) -> None:
    """Adds an experiment from a bundle to this repository."""
    ref = experiment_ref(start, name)
    with tempfile.NamedTemporaryFile(suffix=".bundle") as file:
        file.write(bundle)
        file.flush()
        git("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", file.name, f"+{ref}:{ref}")


def finished(start: str) -> set[str]:
    """The names of this repository's experiments from commit `start`; a failed one leaves no commit."""
    refs = git("for-each-ref", "--format=%(refname)", experiment_ref(start)).decode().split()
    return {ref.rpartition("/")[2] for ref in refs}


def scores(start: str, names: Iterable[str], targets: bool) -> dict[str, Scores]:
    """Experiment -> run -> overall dev score.

    targets: whether only some stages were run. A commit then still contains older scores of the other runs, so runs
    whose files equal those of the starting commit in every experiment are omitted.
    """
    before = files_in(start, RUNS)
    files = {name: files_in(experiment_ref(start, name), RUNS) for name in names}
    changed = {path for blobs in files.values() for path, blob in blobs.items() if before.get(path) != blob}
    read = changed if targets and changed else {path for blobs in files.values() for path in blobs}
    return {name: _scores({p: blob for p, blob in blobs.items() if p in read}) for name, blobs in files.items()}


def _scores(files: dict[str, str]) -> Scores:
    scores = {}
    for path, blob in sorted(files.items()):
        overall = json.loads(git("cat-file", "blob", blob)).get("overall", {})
        if "dev" in overall:
            scores[path.removeprefix(RUNS).removesuffix(".json")] = float(overall["dev"])
    return scores
