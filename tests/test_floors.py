"""The order of the library, and that DVC knows the code each stage runs.

A file may import only files that stand before it in `FLOORS`; the text half and the model half of floor 1 do not meet
before floor 2. A module missing from a stage's `deps` would leave a stage "up to date" after an edit; one too many
would retrain for nothing.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

from tests.closure import ROOT, closure, file_of, imports

FACTS = [
    "errors",
    "orphan",
    "project",
    "yamlfile",
    "tasks",
    "settings",
    "params",
    "storage",
    "locks",
    "filenames",
    "seeding",
    "cost",
]
TEXT = [
    "sources", "delimited", "formats", "corpus", "inputs", "tokenizer", "packing", "overlap", "account", "workers",
    "tokenize_task", "batching", "hardness", "buckets", "mixing", "masking",
]  # fmt: skip
MODEL = ["dropout", "attention", "encoder", "heads", "model", "pretrained"]
LEARN = [
    "distributed", "gpu", "runtime", "launch", "metrics", "predict", "resident", "objectives", "consistency", "optim",
    "fused", "averaging", "checkpoint", "spikes", "outcome", "meter", "progress", "stopping", "steps", "train",
    "model_folder", "finetune", "graph_step", "mlm", "pretrain", "tailor",
]  # fmt: skip
FETCH = ["web", "content", "fetch", "stock", "wheel", "hub", "mirrors", "corpora", "random_model", "download", "check"]
TELL = [
    "bundled", "predictions", "significance", "explain", "evaluate", "charts", "report", "answers", "export",
    "edit", "propose", "subsets",
    "doctor", "revisions", "compare", "reference", "skills", "skill_charts", "serve", "commands", "cli", "cluster",
    "search",
]  # fmt: skip
FLOORS = [*FACTS, *TEXT, *MODEL, *LEARN, *FETCH, *TELL]

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def name_of(path: Path) -> str:
    """`yourbert/report/gather.py` belongs to "report"."""
    return path.relative_to(ROOT / "yourbert").parts[0].removesuffix(".py")


def library() -> list[Path]:
    return sorted(p for p in (ROOT / "yourbert").rglob("*.py") if p != ROOT / "yourbert" / "__init__.py")


def test_every_file_has_its_floor() -> None:
    assert {name_of(p) for p in library()} == set(FLOORS)


@pytest.mark.parametrize("path", library(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_file_imports_only_what_stands_above_it(path: Path) -> None:
    own = name_of(path)
    for module in imports(path):
        imported = [*module.split("."), ""][1]
        if not imported or imported == own:
            continue
        assert imported in FLOORS, f"{path.name} imports {imported}"
        assert FLOORS.index(imported) < FLOORS.index(own), f"{own} stands above {imported}"


@pytest.mark.parametrize(("half", "other"), [(TEXT, MODEL), (MODEL, TEXT)])
def test_the_halves_do_not_meet(half: list[str], other: list[str]) -> None:
    for path in library():
        if name_of(path) in half:
            assert not {m.split(".")[1] for m in imports(path) if "." in m} & set(other), path.name


def test_the_text_half_needs_no_torch() -> None:
    for path in library():
        if name_of(path) in (*FACTS, *TEXT, "metrics", "predictions", "significance", "report"):
            top = [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.Import | ast.ImportFrom)]
            names = {a.name for n in top if isinstance(n, ast.Import) for a in n.names}
            assert "torch" not in names, path.name


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_code_it_runs(stage: str) -> None:
    module = re.search(r"python -m (\S+)", STAGES[stage]["cmd"])
    assert module is not None
    listed = {d for d in STAGES[stage]["deps"] if d.endswith(".py")}
    needed = closure(module[1])
    assert listed == needed, f"missing: {sorted(needed - listed)}; too many: {sorted(listed - needed)}"


def test_no_file_grows_past_a_screenful_of_ideas() -> None:
    for path in [*library(), *(ROOT / "stages").glob("*.py")]:
        assert len(path.read_text().splitlines()) <= 340, path


@pytest.mark.parametrize("path", [*library(), *(ROOT / "stages").glob("*.py")], ids=lambda p: p.name)
def test_no_format_that_carries_code(path: Path) -> None:
    """No pickle, no unsafe loaders, no eval: a file from elsewhere must never run."""
    text = path.read_text()
    for banned in ("import pickle", "torch.load", "yaml.load(", "yaml.unsafe", "eval(", "exec(", "extractall"):
        found = re.search(rf"(?<![\w.]){re.escape(banned)}", text)
        assert found is None, f"{banned} in {path.name}"


def test_modules_are_found_by_name() -> None:
    assert file_of("yourbert.tasks") == Path("yourbert/tasks.py")
    assert file_of("yourbert.tasks.Task") is None
