"""The order of the library's packages, and that DVC knows the code each stage runs.

A file imports only its own package and those before it in `FLOORS`. A folder missing from a stage's `deps` would leave
the stage "up to date" after an edit; one too many would retrain for nothing.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

from tests.support.closure import ROOT, closure, file_of, imports
from yourbert.finetuning import finetune
from yourbert.pretraining import pretrain

FLOORS = [
    "core", "config", "corpus", "tokens", "model", "runtime", "inference", "evaluation", "training", "pretraining",
    "finetuning", "report", "download", "deploy", "experiments", "doctor", "cli",
]  # fmt: skip
# What reads and writes text and numbers alone starts without torch.
WITHOUT_TORCH = ("core", "config", "corpus", "tokens", "report", "cli")
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
LIBRARY = sorted((ROOT / "yourbert").rglob("*.py"))
CODE = [*LIBRARY, *(ROOT / "stages").glob("*.py")]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def floor_of(module: str) -> str:
    """`yourbert.report.load` is on the floor "report"."""
    return module.split(".")[1]


def listed(stage: str) -> set[str]:
    return {dep for dep in STAGES[stage]["deps"] if dep.startswith(("yourbert", "stages"))}


def test_every_package_is_a_floor_and_nothing_lies_beside_them() -> None:
    entries = {path.name for path in (ROOT / "yourbert").iterdir()} - {"__pycache__", "__init__.py", "py.typed"}
    assert entries == set(FLOORS)
    undescribed = [relative(p) for p in LIBRARY if p.name == "__init__.py" and not ast.get_docstring(_tree(p))]
    assert undescribed == []


@pytest.mark.parametrize("path", LIBRARY, ids=relative)
def test_a_file_imports_only_its_own_floor_and_those_below(path: Path) -> None:
    if path.parent == ROOT / "yourbert":
        return
    own = path.relative_to(ROOT / "yourbert").parts[0]
    for module in imports(path):
        if "." in module:
            assert FLOORS.index(floor_of(module)) <= FLOORS.index(own), f"{relative(path)} imports {module}"


def test_no_file_imports_itself_in_a_circle() -> None:
    """Across packages the order of the floors says so; this looks inside them."""
    needs = {
        relative(p): {f.as_posix() for m in imports(p) if (f := file_of(m)) and f.name != "__init__.py"}
        for p in LIBRARY
    }
    done: set[str] = set()

    def visit(name: str, way: list[str]) -> None:
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name not in done:
            for other in needs[name]:
                visit(other, [*way, name])
            done.add(name)

    for name in needs:
        visit(name, [])


def test_what_computes_nothing_needs_no_torch() -> None:
    for path in LIBRARY:
        if path.relative_to(ROOT / "yourbert").parts[0] in WITHOUT_TORCH:
            top = [n for n in _tree(path).body if isinstance(n, ast.Import | ast.ImportFrom)]
            names = {a.name for n in top if isinstance(n, ast.Import) for a in n.names}
            assert "torch" not in names, relative(path)


def test_no_file_is_too_small_to_have_an_idea() -> None:
    small = [relative(p) for p in LIBRARY if p.name != "__init__.py" and len(p.read_text().splitlines()) < 25]
    assert small == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_code_it_runs(stage: str) -> None:
    module = STAGES[stage]["cmd"].split()[2]
    # The docstrings of packages decide nothing, unless their folder is listed.
    needed = {f for f in closure(module) if not f.endswith("/__init__.py") or f.startswith("stages")}
    deps = listed(stage)
    missing = sorted(f for f in needed if not any(f == d or f.startswith(f"{d}/") for d in deps))
    unused = sorted(d for d in deps if not any(f == d or f.startswith(f"{d}/") for f in needed))
    assert (missing, unused) == ([], [])


@pytest.mark.parametrize(
    ("stage", "code"),
    [("pretrain", pretrain.CODE), *((name, finetune.CODE) for name in ("finetune", "multitask", "sequential"))],
)
def test_resume_states_and_dvc_agree_on_what_the_code_is(stage: str, code: tuple[str, ...]) -> None:
    assert {f"yourbert/{name}" for name in code} == {dep for dep in listed(stage) if dep.startswith("yourbert")}


def test_dvc_yaml_is_read_in_a_minute() -> None:
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) <= 170


@pytest.mark.parametrize("path", CODE, ids=relative)
def test_no_format_that_carries_code(path: Path) -> None:
    """No pickle, no unsafe loaders, no eval: a file from elsewhere must never run."""
    text = path.read_text()
    for banned in ("import pickle", "torch.load", "yaml.load(", "yaml.unsafe", "eval(", "exec(", "extractall"):
        found = re.search(rf"(?<![\w.]){re.escape(banned)}", text)
        assert found is None, f"{banned} in {relative(path)}"


def test_modules_are_found_by_name() -> None:
    assert file_of("yourbert.core.tasks") == Path("yourbert/core/tasks.py")
    assert file_of("yourbert.core.tasks.Task") is None


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))
