"""What a later stage would refuse is refused by `check` or `download`, before DVC replaces a result."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.project import Project
from tests.support.closure import ROOT

# Packages that only later stages import, and the codes of what a user's input cannot cause: damaged or mismatched
# files of the pipeline itself, numbers, memory, processes.
LATER = ("tokens", "pretraining", "finetuning", "training", "inference", "evaluation", "report")
NOT_INPUT = {"C01", "C05", "C06", "C12", "T01", "T09", "R08", "B10"}
# Of the command line and the service alone.
INTERACTIVE = {"yourbert/evaluation/explain.py"}


def codes(path: Path) -> set[str]:
    """The codes of the problems that a file makes itself; shared checks stand in config/, core/ and corpus/."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call) and node.args]
    made = [call.args[0] for call in calls if getattr(call.func, "id", "") in ("fail", "Problem")]
    return {str(code.value) for code in made if isinstance(code, ast.Constant)}


@pytest.mark.parametrize("package", LATER)
def test_a_later_stage_refuses_no_input_by_a_check_of_its_own(package: str) -> None:
    found = {path.relative_to(ROOT).as_posix(): codes(path) for path in (ROOT / "yourbert" / package).rglob("*.py")}
    own = {path: made - NOT_INPUT for path, made in found.items() if path not in INTERACTIVE}
    assert not {path: made for path, made in own.items() if made}


def leak(project: Project) -> None:
    project.edit("id: id", "id: id\n      on_leakage: error")
    train, dev = (project.corpus / f"ids-sst-{split}.csv" for split in ("train", "dev"))
    header, first, *_ = train.read_text().splitlines()
    dev.write_text(dev.read_text() + first.replace("\t", "\tleaked", 1) + "\n")
    assert header


def extra(name: str, content: bytes) -> Callable[[Project], None]:
    def change(project: Project) -> None:
        (project.folder / name).write_bytes(content)
        project.edit("  enabled: false", "  enabled: true")
        project.edit("  extra_text: ''", f"  extra_text: {name}")

    return change


def pretrain_length(project: Project) -> None:
    project.edit("  enabled: false", "  enabled: true")
    text = project.params.read_text()
    head, _, tail = text.partition("\npretrain:")
    old = next(line for line in tail.splitlines() if line.startswith("  max_length:"))
    project.params.write_text(head + "\npretrain:" + tail.replace(old, "  max_length: 100000", 1))


REFUSALS: dict[str, tuple[Callable[[Project], None], str, str]] = {
    "tokens of a task": (lambda p: p.edit("max_length: 128", "max_length: 100000"), "download", "P08"),
    "tokens of pretraining": (pretrain_length, "download", "P08"),
    "layers": (lambda p: p.edit("    sst: all\n", "    sst: 2\n"), "download", "P05"),
    "leakage": (leak, "check", "D21"),
    "no extra text": (extra("notes.md", b"text"), "check", "D29"),
    "extra text in another encoding": (extra("notes.txt", b"gr\xfcn"), "check", "D08"),
    "a GPU": (lambda p: p.edit("\ndevice: auto", "\ndevice: cuda"), "check", "P17"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_it_is_refused_before_anything_is_replaced(project: Project, case: str) -> None:
    change, stage, code = REFUSALS[case]
    change(project)
    if stage == "download":
        project.edit("model: sentence-transformers/all-MiniLM-L6-v2", "model: random:1x32")
        assert project.attempt("check").code == 0
    outcome = project.attempt(stage)
    assert outcome.code and outcome.said.startswith(f"YB-{code} "), outcome.said
    assert len(outcome.lines) == 1, outcome.said
