"""Reads the project's git repository: commits, DVC experiments, and the files in them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from yourbert.core.errors import cleaned, fail, nearest, quoted

HERE = Path()
WORKSPACE = "workspace"


def git(*words: str, at: Path = HERE) -> bytes:
    """Runs git and returns its output. Raises UserError (X20) with git's last line if it fails."""
    try:
        done = subprocess.run(["git", *words], cwd=at, capture_output=True, check=False)
    except OSError as error:
        fail("X20", f"cannot run git: {error.strerror or error}", fix="install git")
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no error message"]
        fail("X20", f"git {words[0]}: {cleaned(lines[-1])}", where=str(at.resolve()))
    return done.stdout


def experiment_ref(start: str, name: str = "") -> str:
    """The git ref under which DVC stores an experiment that started from commit `start`."""
    return f"refs/exps/{start[:2]}/{start[2:]}/{name}"


def files_in(commit: str, folder: str) -> dict[str, str]:
    """Path -> blob id of the files below a folder in a commit."""
    lines = git("ls-tree", "-r", commit, folder).decode().splitlines()
    entries = (line.split(maxsplit=3) for line in lines)
    return {path: blob for _, _, blob, path in entries}


def commit_of(revision: str) -> str:
    """Resolves a branch, a tag, a hash or an experiment's name to a commit id. Raises UserError (P05)."""
    experiments = {
        ref.rpartition("/")[2]: ref for ref in git("for-each-ref", "--format=%(refname)", "refs/exps/").decode().split()
    }
    commit = f"{experiments.get(revision, revision)}^{{commit}}"
    words = ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", commit]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        names = [
            *git("for-each-ref", "--format=%(refname:short)", "refs/heads/", "refs/tags/").decode().split(),
            *experiments,
        ]
        what = f"unknown commit, branch, tag or experiment {quoted(revision)}{nearest(revision, names)}"
        fail("P05", what, fix="see `git log` and `dvc exp list`")
    return done.stdout.strip()
