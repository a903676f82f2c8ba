"""How a mistake ends a program: its lines, its exit code, and a copy for programs."""

from __future__ import annotations

import errno
import importlib
import json
import os
import pickle
import sys
from pathlib import Path

import pytest

from yourbert.core.errors import EXTRAS, QUOTED_CHARACTERS, Problem, UserError, exit_cleanly, extras, quoted, shortened


def broken() -> None:
    problems = [Problem("D14", "label '7' is unknown", f"a.tsv:{line}:3", "correct it") for line in range(2, 30)]
    raise UserError(problems, total=99)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("YOURBERT_DEBUG", raising=False)
    return tmp_path


def test_in_a_project_a_mistake_has_a_copy_for_programs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "params.yaml").touch()
    with pytest.raises(SystemExit) as ended:
        exit_cleanly(broken)
    shown = capsys.readouterr().err.splitlines()
    assert ended.value.code == 3 and len(shown) == 21 and shown[-1] == "99 problems in all; 20 shown."
    copy = json.loads((here / ".yourbert" / "errors.json").read_text())
    assert copy["total"] == 99 and len(copy["problems"]) == 28
    assert copy["problems"][0] == {
        "code": "D14", "what": "label '7' is unknown", "where": "a.tsv:2:3", "fix": "correct it",
    }  # fmt: skip


def test_a_mistake_comes_whole_out_of_another_process() -> None:
    with pytest.raises(UserError) as caught:
        broken()
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.problems, copy.total) == (caught.value.problems, 99) and str(copy) == str(caught.value)
    assert str(copy).count("YB-D14") == 28


def test_a_full_disk_is_one_line_whoever_wrote(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fill() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/x")

    with pytest.raises(SystemExit) as ended:
        exit_cleanly(fill)
    assert ended.value.code == 7
    assert capsys.readouterr().err == "YB-R07 /tmp/x: cannot write: No space left on device. Fix: free disk space.\n"


def test_elsewhere_nothing_is_written(here: Path) -> None:
    with pytest.raises(SystemExit):
        exit_cleanly(broken)
    assert not [*here.iterdir()]


def test_a_copy_that_cannot_be_written_is_no_mistake_of_its_own(here: Path) -> None:
    (here / "params.yaml").touch()
    (here / ".yourbert").touch()
    with pytest.raises(SystemExit) as ended:
        exit_cleanly(broken)
    assert ended.value.code == 3


def test_a_long_list_is_shortened_and_its_names_are_harmless() -> None:
    assert shortened(["1", "a\u202eb"]) == "1, a\\u202eb"
    assert shortened([str(n) for n in range(10)]) == "0, 1, 2, 3, 4, 5, 6, 7 and 2 more"


@pytest.mark.parametrize("text", ["a\u202eb", "a\0b", "a\nb", "\x1b[31m", "\ud800", "\u2028"])
def test_quoted_data_is_short_and_printable(text: str) -> None:
    """Also where a message carries what another library said."""
    line = str(Problem("D14", f"label {text}", f"{text}.csv:3", text))
    assert line.isprintable() and quoted(text).isprintable() and "\\" in line
    assert len(quoted(text * 100_000)) <= 6 * QUOTED_CHARACTERS + 2


@pytest.mark.parametrize(("extra", "packages"), EXTRAS.items())
def test_a_missing_package_of_an_extra_says_what_to_install(
    extra: str, packages: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(UserError, match=rf"^YB-P19 .*package {package}\. Fix: .*'yourbert\[{extra}\]'"), extras():
            importlib.import_module(f"{package}.part")


def test_another_missing_module_is_an_error_of_the_program() -> None:
    with pytest.raises(ModuleNotFoundError), extras():
        importlib.import_module("yourbert.nothing")
