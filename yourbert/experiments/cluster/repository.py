"""What travels between the machines is git: the whole repository out as one bundle, an experiment's commit back.

A bundle is a repository in a file, so no server and no shared folder is needed. An experiment of DVC is a commit under
`refs/exps/<commit it started from>/<name>`, holding params, metrics, curves and the report; fetched into the
repository, it is there for `dvc exp show`, `dvc exp apply` and `dvc metrics diff` like one made here.
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
    """The commit that a search starts from. Raises UserError when what would run is not what that commit says."""
    commit = git("rev-parse", "HEAD").decode().strip()
    if git("status", "--porcelain", "--untracked-files=no").strip():
        fail("X21", "there are changes that no commit holds", where="git status", fix="commit or stash them")
    if git("rev-parse", "--is-shallow-repository").strip() == b"true":
        fail("X21", "this clone lacks its older commits", fix="run `git fetch --unshallow`")
    return commit


def check_remote(name: str) -> None:
    """Refuses a DVC remote that other machines cannot reach: clones have what is committed, and end with the run."""
    command = [sys.executable, "-m", "dvc", "config", "--project", "--list"]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    urls = [line.removeprefix("remote.").partition(".url=") for line in lines if line.startswith("remote.")]
    remotes = {remote: url for remote, mark, url in urls if mark}
    if name not in remotes:
        what = f"the project has no DVC remote '{name}'{nearest(name, remotes)}"
        fail("X24", what, where=".dvc/config", fix=f"dvc remote add {name} URL, and commit it")
    # A relative path counts from .dvc.
    if "://" not in remotes[name] and (HERE / ".dvc" / remotes[name]).resolve().is_relative_to(HERE.resolve()):
        fail(
            "X24", f"'{name}' is a folder of the repository itself", where=".dvc/config", fix="take a remote elsewhere"
        )


def whole() -> bytes:
    """The repository up to the current commit, as a bundle."""
    return git("bundle", "create", "--quiet", "-", "HEAD")


def check_out(folder: Path, repository: bytes, commit: str) -> None:
    """Makes `folder`, which may hold other files, a clone at `commit`."""
    git("init", "--quiet", at=folder)
    bundle = (folder / ".git" / "whole.bundle").resolve()
    bundle.write_bytes(repository)
    git("fetch", "--quiet", "--no-tags", str(bundle), "HEAD", at=folder)
    bundle.unlink()
    git("checkout", "--quiet", commit, at=folder)


def result_of(folder: Path, start: str, name: str) -> bytes:
    """The commit of an experiment in the clone `folder`, as a bundle without what came before it."""
    return git("bundle", "create", "--quiet", "-", experiment_ref(start, name), f"^{start}", at=folder)


def take_in(result: bytes, start: str, name: str) -> None:
    """Puts a result beside the experiments of this repository."""
    ref = experiment_ref(start, name)
    with tempfile.NamedTemporaryFile(suffix=".bundle") as file:
        file.write(result)
        file.flush()
        git("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", file.name, f"+{ref}:{ref}")


def finished(start: str) -> set[str]:
    """The names of the experiments from commit `start` that are here; a failed one leaves no commit."""
    refs = git("for-each-ref", "--format=%(refname)", experiment_ref(start)).decode().split()
    return {ref.rpartition("/")[2] for ref in refs}


def scores(start: str, names: Iterable[str], targets: bool) -> dict[str, Scores]:
    """Experiment -> run -> overall dev score.

    When only some `targets` were run, an experiment's commit still holds the other runs' older scores: runs whose
    files are those of the starting commit in every experiment are left out.
    """
    before = files_in(start, RUNS)
    files = {name: files_in(experiment_ref(start, name), RUNS) for name in names}
    changed = {path for own in files.values() for path, blob in own.items() if before.get(path) != blob}
    shown = changed if targets and changed else {path for own in files.values() for path in own}
    return {name: _scores({p: blob for p, blob in own.items() if p in shown}) for name, own in files.items()}


def _scores(files: dict[str, str]) -> Scores:
    found = {}
    for path, blob in sorted(files.items()):
        overall = json.loads(git("cat-file", "blob", blob)).get("overall", {})
        if "dev" in overall:
            found[path.removeprefix(RUNS).removesuffix(".json")] = float(overall["dev"])
    return found
