"""docs/own-task.md, followed to the letter: its conversions, blocks, commands and error messages.

The raw files are the real ones when YOURBERT_REAL_DATA names their folder, cut to a few rows, else look-alikes.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.pipeline.conftest import Project, make_project
from tests.support.closure import ROOT

pytestmark = pytest.mark.integration

PAGE = (ROOT / "docs" / "own-task.md").read_text(encoding="utf-8")
ROWS = 100
# Headings of the page.
FOLDER = "Where the files go"
CLASSIFICATION = "Classification: TREC question types"
SICK = "Two tasks from one file: SICK"
MIXTURE = "Multi-task and sequential models"
SETTINGS = "Settings of one task"
MISTAKES = "Invalid rows"
URLS = "Files by URL"
# The page's models and their tasks.
RUNS = {
    "trec": ["trec"], "sick-rel": ["sick-rel"], "sick-ent": ["sick-ent"], "sick": ["sick-rel", "sick-ent"],
    "sick-ent-next": ["sick-ent"],
}  # fmt: skip


def blocks(language: str, *sections: str) -> list[str]:
    """The fenced blocks of a language, in the sections with these headings or in all."""
    found = []
    for part in PAGE.split("\n## ")[1:]:
        heading, _, text = part.partition("\n")
        if not sections or heading in sections:
            found += re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return found


def commands(*sections: str) -> list[list[str]]:
    """The words of every command line in the console blocks of these sections."""
    lines = "".join(blocks("console", *sections)).splitlines()
    return [shlex.split(line.removeprefix("$ ")) for line in lines if line.startswith("$ ")]


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """`old` with the keys of `new`, block by block, as a person adds them to params.yaml."""
    both = {k: merged(old[k], v) if isinstance(v, dict) and isinstance(old.get(k), dict) else v for k, v in new.items()}
    return old | both


def add(project: Project, text: str) -> None:
    project.set_params(**merged(project.params(), yaml.safe_load(text)))


def write_look_alikes(raw: Path) -> None:
    """Invented rows in the two raw formats, with what is awkward about them: Latin-1, tabs, CRLF, a stray quote."""
    asks = (
        "How does a {} work ?",
        "Which {} is the oldest ?",
        "What is {} short for ?",
        "Who built the caf\xe9 {} ?",
        "Where does the {} stand ?",
        "How many rooms has a {} ?",
    )
    things = ("mill", "bridge", "harbour", "lamp", "ferry", "kiln", "tower", "garden")
    lines = [f"{i % 6} {asks[i % 6].format(f'{things[i % 8]} of year {1700 + i}')}\n" for i in range(ROWS + 30)]
    (raw / "TREC.train.all").write_text("".join(lines[:ROWS]), encoding="latin-1")
    (raw / "TREC.test.all").write_text("".join(lines[ROWS:]), encoding="latin-1")
    columns = "pair_ID sentence_A sentence_B entailment_label relatedness_score entailment_AB SemEval_set"
    rows = [columns.split()]
    for i in range(ROWS):
        first = f"A {things[i % 8]} is painted near {i % 7} boats"
        label, score, second = (
            ("ENTAILMENT", "4.8", f"The {things[i % 8]} is being painted"),
            ("NEUTRAL", "2.35", f'A "{things[i % 5]}" is for sale'),
            ("CONTRADICTION", "3", f"Nobody is painting the {things[i % 8]}"),
        )[i % 3]
        rows.append([str(i + 1), first, second, label, score, "A_B", ("TRAIN", "TRAIN", "TRIAL", "TEST")[i % 4]])
    (raw / "sick2014.csv").write_text("".join("\t".join(row) + "\r\n" for row in rows), newline="")


def cut_real(real: Path, raw: Path) -> None:
    """The first rows of the real files; of SICK the first of each split."""
    for name in ("TREC.train.all", "TREC.test.all"):
        lines = (real / "trec" / name).read_bytes().splitlines(keepends=True)
        odd = [line for line in lines[ROWS:] if not line.isascii()]
        (raw / name).write_bytes(b"".join(lines[:ROWS] + odd))
    header, *lines = (real / "sick" / "sick2014.csv").read_bytes().splitlines(keepends=True)
    chosen = [[x for x in lines if x.rstrip().endswith(split)][:ROWS] for split in (b"TRAIN", b"TRIAL", b"TEST")]
    (raw / "sick2014.csv").write_bytes(header + b"".join(line for part in chosen for line in part))


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with the page's files and blocks in place of the bundled ones, and the small model of the tests."""
    project = make_project(tmp_path_factory.mktemp("own") / "project")
    raw = project.root / "raw"
    raw.mkdir()
    if real := os.environ.get("YOURBERT_REAL_DATA"):
        cut_real(Path(real), raw)
    else:
        write_look_alikes(raw)
    for path in (project.root / "data").iterdir():
        path.unlink()
    for code in blocks("python"):
        done = project(sys.executable, "-c", code)
        assert done.returncode == 0, done.stderr
    project.set_params(tasks={}, mixtures={})
    for text in blocks("yaml", CLASSIFICATION, SICK, MIXTURE):
        add(project, text)
    return project


@pytest.fixture
def copied(followed: Project, tmp_path: Path) -> Project:
    """A copy of the project, to be run or spoilt."""
    shutil.copytree(followed.root, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")


def test_conversions_are_short() -> None:
    snippets = blocks("python")
    assert len(snippets) == 2
    assert all(len(code.strip().splitlines()) <= 12 for code in snippets)


def test_the_conversions_keep_every_row(followed: Project) -> None:
    rows = {path.name: len(path.read_text().splitlines()) - 1 for path in (followed.root / "data").iterdir()}
    raw = {path.name: len(path.read_bytes().splitlines()) for path in (followed.root / "raw").iterdir()}
    assert rows["trec-train.csv"] + rows["trec-dev.csv"] == raw["TREC.train.all"]
    assert rows["trec-test.csv"] == raw["TREC.test.all"]
    assert sum(rows[f"sick-{part}.csv"] for part in ("train", "dev", "test")) == raw["sick2014.csv"] - 1
    assert all(rows.values())


def test_the_page_s_commands_give_the_page_s_files(copied: Project) -> None:
    for text in blocks("yaml", FOLDER, SETTINGS):
        add(copied, text)
    (adding,) = commands(FOLDER)
    copied.dvc(*adding[1:])
    (experiment,) = commands(SETTINGS)
    assert "Running stage 'finetune@trec-11711'" in copied.dvc(*experiment[1:])
    assert float(copied.params()["tasks"]["trec"]["lr"]) == 3e-5
    targets = [word for line in commands(CLASSIFICATION, SICK, MIXTURE) for word in line[2:]]
    assert len(targets) == len(RUNS)
    copied.dvc("repro", *targets, "report")  # "report" makes it all that `dvc repro` runs, in one call
    for run, tasks in RUNS.items():
        found = json.loads((copied.root / f"metrics/runs/{run}/11711.json").read_text())
        for task in tasks:
            splits = json.loads((copied.root / f"metrics/data/{task}.json").read_text())["splits"]
            for split in ("dev", "test"):
                assert found[task][split]["rows"] == splits[split]["rows_used"] == splits[split]["rows_read"] > 0
                predictions = (copied.root / f"build/predictions/{run}/11711/{task}-{split}.csv").read_text()
                assert len(predictions.splitlines()) == 1 + splits[split]["rows_used"]
    for name in re.findall(r"^\| `([\w/.-]+)`", PAGE, re.MULTILINE):
        if "/" in name:
            assert (copied.root / name).exists(), name
    report = (copied.root / "report/report.md").read_text()
    assert all(task in report for task in ("trec", "sick-rel", "sick-ent"))
    assert "synthetic" not in report


def spoil_label(project: Project) -> None:
    """HUMAN in line 42 of the train file."""
    path = project.root / "data/trec-train.csv"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    lines[41] = "HUMAN," + lines[41].partition(",")[2]
    path.write_text("".join(lines), encoding="utf-8")


def spoil_column(project: Project) -> None:
    add(project, "tasks: {trec: {data: {text: [Question]}}}")


def spoil_key(project: Project) -> None:
    """`lables` for `labels` in the first block, wherever that stands."""
    path = project.root / "params.yaml"
    path.write_text(path.read_text().replace("      labels:", "      lables:", 1))


def tokenized(project: Project, cache: Path) -> dict[str, Any]:
    """The account of the train rows after the stages up to `tokenize trec`, each of which must succeed."""
    for stage in (["check"], ["download"], ["tokenize", "trec"]):
        done = project(sys.executable, "-m", f"stages.{stage[0]}", *stage[1:], env={"YOURBERT_CACHE": str(cache)})
        assert done.returncode == 0, done.stderr
    account = json.loads((project.root / "metrics/data/trec.json").read_text())["splits"]["train"]
    assert isinstance(account, dict)
    return account


@pytest.mark.parametrize(("number", "spoil"), list(enumerate((spoil_label, spoil_column, spoil_key))))
def test_transcripts_are_what_check_prints(copied: Project, number: int, spoil: Callable[[Project], None]) -> None:
    transcript = blocks("console", MISTAKES)[number]
    spoil(copied)
    done = copied(sys.executable, "-m", "stages.check")
    assert done.returncode != 0
    assert told(done.stderr) == told(transcript)


def told(output: str) -> list[str]:
    """The messages in an output, without the place in params.yaml, which depends on what else stands there."""
    lines = [line for line in output.splitlines() if line.startswith("YB-")]
    return [re.sub(r"params\.yaml:\d+:\d+", "params.yaml", line) for line in lines]


def test_bad_rows_are_dropped_and_counted(copied: Project, tmp_path: Path) -> None:
    spoil_label(copied)
    (text,) = blocks("yaml", MISTAKES)
    add(copied, text)
    train = tokenized(copied, tmp_path / "cache")
    assert train["rows_rejected"] == 1
    assert [entry[:2] for entry in train["rejected_lines"]] == [[42, "D14"]]


@pytest.fixture
def server(copied: Project) -> Iterator[str]:
    """The project's files served on this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(copied.root / "data"))) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_address[1]}"
        serving.shutdown()


def test_a_file_by_url(copied: Project, server: str, tmp_path: Path) -> None:
    (text,) = blocks("yaml", URLS)
    add(copied, text.replace("https://example.org/sets", server))
    assert tokenized(copied, tmp_path / "cache")["rows_used"]
