"""What git knows of the project: its commits, the experiments of DVC among them, and the files that they hold."""

from __future__ import annotations

import subprocess
from pathlib import Path

from yourbert.core.errors import cleaned, fail, nearest, quoted

HERE = Path()
WORKSPACE = "workspace"


def git(*words: str, at: Path = HERE) -> bytes:
    """What a git command prints. Raises UserError (X20) with git's own last line when it fails."""
    try:
        done = subprocess.run(["git", *words], cwd=at, capture_output=True, check=False)
    except OSError as error:
        fail("X20", f"git does not start: {error.strerror or error}", fix="install git")
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no word why"]
        fail("X20", f"git {words[0]}: {cleaned(lines[-1])}", where=str(at.resolve()))
    return done.stdout


def experiment_ref(start: str, name: str = "") -> str:
    """Where DVC keeps the experiments that started from commit `start`."""
    return f"refs/exps/{start[:2]}/{start[2:]}/{name}"


def files_in(commit: str, folder: str) -> dict[str, str]:
    """Path -> blob of the files below a folder in a commit."""
    lines = git("ls-tree", "-r", commit, folder).decode().splitlines()
    entries = (line.split(maxsplit=3) for line in lines)
    return {path: blob for _, _, blob, path in entries}


def commit_of(revision: str) -> str:
    """The commit of a branch, a tag, a hash or an experiment's name. Raises UserError (P05)."""
    experiments = {
        ref.rpartition("/")[2]: ref for ref in git("for-each-ref", "--format=%(refname)", "refs/exps/").decode().split()
    }
    named = f"{experiments.get(revision, revision)}^{{commit}}"
    words = ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", named]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        names = [
            *git("for-each-ref", "--format=%(refname:short)", "refs/heads/", "refs/tags/").decode().split(),
            *experiments,
        ]
        what = f"{quoted(revision)} is no commit, branch, tag or experiment{nearest(revision, names)}"
        fail("P05", what, fix="see `git log` and `dvc exp list`")
    return done.stdout.strip()
