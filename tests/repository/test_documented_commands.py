"""What README and docs tell people to type is what the programs take: commands, options, keys, targets, modules.

`tests/pipeline/test_commands.py` runs them.
"""

from __future__ import annotations

import importlib.util
import re
from typing import Any

import pytest
import yaml

from tests.support.closure import ROOT
from tests.support.commands import Shown, shown
from yourbert.cli import COMMANDS as COMMAND_NAMES
from yourbert.cli import RENAMED, command_line, refuse_renamed
from yourbert.core.errors import UserError

pytestmark = pytest.mark.integration

PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
# Tasks, and parts of a project, that a page makes up to show how.
MADE_UP = ("trec", "sick", "mine")
COMMANDS = [(one, words) for one in shown() for words in one.programs if not re.search(r"<\w+>|\.\.\.", one.text)]


@pytest.mark.parametrize(("one", "words"), COMMANDS, ids=lambda value: str(value)[:90])
def test_it_is_what_the_program_takes(one: Shown, words: list[str]) -> None:
    whole = one.block or one.page == "README.md"  # elsewhere a command may be named by its first words alone
    CHECKS[words[0]](words[1:], whole)


def check_yourbert(words: list[str], whole: bool) -> None:
    assert words[0] in COMMAND_NAMES
    if whole:
        command_line().parse_args(words)


# What a command line must have beside the renamed option.
REQUIRED = {"search": ["--set", "lr=1"], "predict": ["m", "x"], "explain": ["m", "x"], "serve": ["m"]}


@pytest.mark.parametrize("old", RENAMED)
def test_a_renamed_command_or_option_is_refused_with_its_new_spelling(old: str) -> None:
    command, *options = old.split()
    for words in ([command, *options, "2"], [command, *(f"{option}=2" for option in options)]):
        with pytest.raises(UserError, match=f"P05 yourbert: `{old}` was renamed.*write `yourbert ") as error:
            refuse_renamed(words)
        assert error.value.exit_code == 2 and RENAMED[old] in str(error.value)
    command, *options = RENAMED[old].split("(")[0].replace(" N", " 3").split()
    assert command in COMMAND_NAMES
    if options:
        command_line().parse_args([command, *options, *REQUIRED.get(command, [])])


def test_the_new_spellings_are_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["search", "--keep-models", "remote"], ["serve", "skills"]):
        refuse_renamed(words)
    with pytest.raises(SystemExit):
        command_line().parse_args(["--version"])
    assert re.fullmatch(r"yourbert \d+\.\d+\.\d+\n", capsys.readouterr().out)


def check_dvc(words: list[str], whole: bool) -> None:
    from dvc.cli import parse_args

    if whole:
        parsed = parse_args(words)
        for setting in getattr(parsed, "set_param", None) or []:
            key, _, value = setting.partition("=")
            assert value and known_key(key), setting
        for target in getattr(parsed, "targets", None) or []:
            assert known_target(target), target


def known_key(key: str) -> bool:
    """A key of params.yaml, or with a + a new one beside its like; keys of made-up tasks are those of any task."""
    found: Any = PARAMS
    *parents, last = key.removeprefix("+").split(".")
    for part in parents:
        found = (
            found[int(part)]
            if isinstance(found, list)
            else found.get(part, found.get("sst") if part in MADE_UP else None)
        )
        if found is None:
            return False
    return last in found or (key.startswith("+") and last in PARAMS)


def known_target(target: str) -> bool:
    stage, _, item = target.partition("@")
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    if not item:
        return stage in stages or (ROOT / target).exists() or target.startswith("build/")
    run, _, seed = item.rpartition("-")
    names = [*PARAMS["tasks"], *PARAMS["mixtures"], *(f"model{n}" for n in range(len(PARAMS["sequential"])))]
    return stage in stages and seed.isdigit() and (run in names or run.startswith(MADE_UP))


def check_make(words: list[str], whole: bool) -> None:
    assert words[0] in TARGETS


def check_python(words: list[str], whole: bool) -> None:
    assert words[0] == "-m"
    spec = importlib.util.find_spec(words[1])
    assert spec is not None and spec.origin is not None
    if words[1].split(".")[0] not in ("benchmarks", "yourbert", "stages"):
        return
    source = "\n".join(file.read_text() for file in (ROOT / words[1].split(".")[0]).rglob("*.py"))
    for word in words[2:]:
        if word.startswith("--") and word != "--help":
            assert f'"{word}"' in source, word


CHECKS = {
    "yourbert": check_yourbert,
    "dvc": check_dvc,
    "make": check_make,
    "python": check_python,
    "pip": lambda words, whole: None,
}


def test_commands_are_found() -> None:
    """And wrong ones would be: the checks can fail."""
    assert len(COMMANDS) > 80
    for words in (
        ["dvc", "exp", "run", "-S", "lrr=1"],
        ["dvc", "repro", "evaluate@nothing-1"],
        ["dvc", "repro", "x"],
        ["make", "nothing"],
    ):
        with pytest.raises((AssertionError, KeyError)):
            CHECKS[words[0]](words[1:], True)
