"""Every command of README and docs is typed as it is printed, page by page, in a small copy of the project."""

from __future__ import annotations

import shutil
import subprocess
from itertools import groupby
from pathlib import Path

import pytest

from tests.pipeline.conftest import Project, make_project
from tests.support.closure import ROOT
from tests.support.commands import Shown, shown

pytestmark = pytest.mark.integration

# Beginnings of what is not run here, and why.
SKIPPED = {
    "make": ".ci/run makes these",
    "less": "a person reads there",
    "python -m pip install": "packages are installed by the Makefile, from the lock files",
    "dvc exp run -S corpus=": "a corpus that is fetched, or the reader's own: tests/download/test_corpora.py",
    "dvc plots show": "opens a browser where there is one; tests/cli/test_offline_plots.py",
    "python -m benchmarks.": "minutes to hours; each is run by hand when its page is written",
    "yourbert search --ray": "several machines: tests/pipeline/test_sweep.py",
    "ray ": "several machines: tests/experiments/cluster/test_cluster.py",
    "torchrun": "several machines; the stage alone under ranks: tests/runtime/test_launch.py",
    "for gpu in": "several GPUs",
    "dvc exp run -S num_processes=8": "eight GPUs",
    "dvc remote add --default mine s3": "a bucket",
    "dvc push": "the same",
    "git commit --all": "the same",
    "git add --all && git commit": "what the reader changed before",
    "rm -rf build/models/sst/11711": "several machines",
    "dvc commit --force finetune@sst": "the same",
    "dvc config --system": "the machine's own settings",
    "yourbert serve": "does not end: tests/deploy/serve/test_app.py",
    "curl": "the same",
    "eval": "for a shell that a person types in",
    "dvc pull -r": "a remote of the reader's",
}
PAGES_APART = {"docs/own-task.md": "tests/pipeline/test_own_task.py", "docs/reliability.md": "names commands alone"}
# What a page takes for granted.
FILES = {"texts.txt": "a good film\nnot bad at all\n"}
SEEDS = {"docs/skills.md": [11711, 2]}


def why_not(one: Shown) -> str | None:
    if not one.block and one.page != "README.md":
        return "a name in a sentence"
    if one.page in PAGES_APART or "<" in one.text.partition("|")[0]:
        return PAGES_APART.get(one.page, "the reader fills it in")
    return next((why for start, why in SKIPPED.items() if one.text.startswith(start)), None)


PAGES = {
    page: [one for one in ones if not why_not(one)]
    for page, ones in groupby(sorted(shown(), key=lambda one: one.page), key=lambda one: one.page)
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = make_project(tmp_path_factory.mktemp("whole") / "project", ("sst", "cfimdb", "quora", "sts"))
    project.dvc("repro")
    for name, text in FILES.items():
        (project.root / name).write_text(text)
    header, *rows = (project.root / "data" / "ids-sst-train.csv").read_text().splitlines()
    for split, some in (("train", rows[:40]), ("dev", rows[40:])):
        (project.root / "data" / f"mine-{split}.csv").write_text("\n".join([header, *some]) + "\n")
    project.dvc("add", "--quiet", "data")
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message", "reproduced")
    project.git("branch", "--force", "main")
    return project


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page, ones in PAGES.items() if ones])
def test_the_commands_of_a_page(page: str, whole: Project, tmp_path: Path) -> None:
    root = tmp_path / "project"
    shutil.copytree(whole.root, root, symlinks=True)
    project = Project(root)
    if page in SEEDS:
        project.set_params(seeds=SEEDS[page])
        project.dvc("repro", "evaluate")
    script = "set -uo pipefail\n"
    for number, one in enumerate(PAGES[page]):
        # A page's shell functions hold for the commands after it, so a page is one shell. The README's are no story:
        # what an experiment left in params.yaml is not what the next command is for.
        script += "git checkout --quiet -- .\n" if page == "README.md" else ""
        script += f"echo '=== {number}'\n{one.text}\necho \"--- $?\"\n"
    done = subprocess.run(
        ["bash", "-c", script], cwd=root, env=project.env(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False,
    )  # fmt: skip
    parts = done.stdout.split("=== ")[1:]
    assert len(parts) == len(PAGES[page])
    # Commands that show a mistake are followed by its line.
    text = (ROOT / page).read_text()
    for one, told in zip(PAGES[page], parts, strict=True):
        status = told.rpartition("--- ")[2].strip()
        mistake = f"$ {one.text}\nYB-" in text
        assert (status != "0") == mistake, f"{one}\n{told}"


def test_what_is_not_run_is_there() -> None:
    texts = [one.text for one in shown()]
    unused = [start for start in SKIPPED if not any(text.startswith(start) for text in texts)]
    assert unused == []
    assert sum(map(len, PAGES.values())) > 40
