"""docs/api.md says what is public, and nothing else."""

from __future__ import annotations

import inspect
import pydoc
import re
import subprocess
import sys
from pathlib import Path

import pytest

import yourbert
from tests.support.closure import ROOT
from tests.support.predicting import TASKS, saved
from yourbert.deploy.api_reference import PAGE, page


def test_the_page_is_up_to_date() -> None:
    assert (ROOT / PAGE).read_text(encoding="utf-8") == page(), "run `make reference`"


def test_it_names_exactly_what_is_public() -> None:
    assert set(re.findall(r"^## `yourbert\.(\w+)`$", page(), re.MULTILINE)) == set(yourbert.__all__)
    shown = pydoc.render_doc(yourbert, renderer=pydoc.plaintext)
    for name in yourbert.__all__:
        assert name in shown and inspect.getdoc(getattr(yourbert, name)), name
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = yourbert.lode


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, yourbert; print(sorted({'torch', 'numpy', 'pydantic', 'yaml'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("document", ["README.md", "docs/api.md"])
def test_the_examples_run_as_printed(document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(
        r"```python\n(import yourbert\n.*?)```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL
    )
    (tmp_path / "build/models/sst").mkdir(parents=True)
    saved(tmp_path, {"mood": TASKS["mood"]}).rename(tmp_path / "build/models/sst/11711")
    monkeypatch.chdir(tmp_path)
    assert blocks
    for block in blocks:
        exec(compile(block, document, "exec"), {})
