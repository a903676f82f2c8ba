"""What stands around the code - workflow, hooks, licence, citation - can be read, and names what there is."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import yaml

from tests.support.closure import ROOT
from yourbert.cli import COMMANDS

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_workflow_and_hooks_run_what_there_is() -> None:
    steps = [step for job in read(".github/workflows/check.yml")["jobs"].values() for step in job["steps"]]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    made = re.findall(r"\bmake ([a-z-]+)", "\n".join(step.get("run", "") for step in steps))
    assert {"lint", "test"} <= set(made) <= targets
    hooks = read(".pre-commit-config.yaml")["repos"][0]["hooks"]
    assert all(hook["entry"].startswith(".venv/bin/") for hook in hooks)


def test_each_marker_is_run_by_some_target_of_make() -> None:
    """All but `cuda`, which needs a GPU; the fast tests are those of `make test` that are not marked `integration`."""
    made = dict(
        re.findall(r"^(test[a-z-]*):.*\n\t.* -m (\"[^\"]+\"|\w+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    )
    assert made == {
        "test": '"not slow and not cuda"',
        "test-fast": '"not slow and not cuda and not integration"',
        "test-slow": "slow",
    }
    markers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["markers"]
    assert {marker.partition(":")[0] for marker in markers} == {"slow", "cuda", "integration"}


def test_version_and_licence_are_the_same_everywhere() -> None:
    citation = read("CITATION.cff")
    assert citation["version"] == PROJECT["version"] and citation["license"] == PROJECT["license"]
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()
    assert (ROOT / "LICENSE").read_text().startswith(PROJECT["license"])


def test_every_command_is_told_of() -> None:
    pages = "\n".join(page.read_text() for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    assert [name for name in COMMANDS if f"yourbert {name}" not in pages] == []


def test_every_page_is_on_the_map() -> None:
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert set(re.findall(r"\]\(([a-z-]+\.md)\)", (ROOT / "docs" / "README.md").read_text())) == pages


def test_links_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            assert "://" in link or (page.parent / link).exists(), f"{page.name}: {link}"
