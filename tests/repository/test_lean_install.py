"""What `pip install yourbert` brings is enough to predict, explain, serve and export; the rest says what it needs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.deploy.export.conftest import made
from tests.support.closure import ROOT
from tests.support.commands import YOURBERT
from yourbert.core.errors import EXTRAS

pytestmark = pytest.mark.integration

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Distributions that do not bear the name of the module they hold.
NAMES = {"huggingface-hub": "huggingface_hub", "pyyaml": "yaml", "markdown-it-py": "markdown_it"}
NAMES |= {"prometheus-client": "prometheus_client", "vl-convert-python": "vl_convert"}
APP = """
from pathlib import Path
from yourbert.config.schema import Runtime
from yourbert.deploy.serve.app import build_app
from yourbert.deploy.serve.limits import Limits
from yourbert.deploy.serve.model import ServedModel
from yourbert.runtime.machine import prepare
machine = prepare(Runtime(device="cpu", precision="fp32", num_threads=1, deterministic=False))
print(build_app(ServedModel(Path(sys.argv[1]), machine), Limits(), None).title)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("lean"), "cls")


def lean(code: str, *words: object, cwd: Path, extras: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """A program in an environment that has the core and some extras."""
    missing = {"scipy", "sklearn", *(name for extra in EXTRAS if extra not in extras for name in EXTRAS[extra])}
    without = f"import sys; sys.modules.update(dict.fromkeys({sorted(missing)}))\n"
    environment = {"PATH": "", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", without + code, *map(str, words)],
        cwd=cwd, env=environment, input="good film\n", capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_core_predicts_explains_and_exports(folder: Path, tmp_path: Path) -> None:
    for words in (
        ("predict", folder, "-", "--task", "mood", "--out", "answers.csv"),
        ("explain", folder, "good film", "--task", "mood"),
        ("export", folder, "out", "--to", "transformers", "--task", "mood"),
        ("completion", "bash"),
    ):
        done = lean(YOURBERT[-1], *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "answers.csv").read_text().startswith("id,prediction,p_bad")
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_with_its_extra_it_serves(folder: Path, tmp_path: Path) -> None:
    done = lean(APP, folder, cwd=tmp_path, extras=("serve",))
    assert done.stdout == "YourBERT\n", done.stderr


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (("serve", "MODEL"), "serve"),
        (("export", "MODEL", "out", "--to", "onnx"), "onnx"),
        (("predict", "MODEL", "rows.parquet", "--task", "mood"), "parquet"),
        (("search", "--set", "lr=1,2"), "pipeline"),
        (("compare",), "pipeline"),
        (("localize-skills", "MODEL"), "pipeline"),
        (("offline-plots",), "pipeline"),
    ],
)
def test_a_command_of_an_extra_says_what_it_needs(
    folder: Path, tmp_path: Path, words: tuple[str, ...], extra: str
) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    done = lean(YOURBERT[-1], *(folder if word == "MODEL" else word for word in words), cwd=tmp_path)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and line.startswith("YB-P19 ") and f"'yourbert[{extra}]'" in line


def test_every_import_is_of_the_core_or_of_a_known_extra() -> None:
    named = {re.split(r"[<>=\[]", word)[0] for word in PROJECT["dependencies"]}
    known = {NAMES.get(name, name) for name in named} | {name for names in EXTRAS.values() for name in names}
    imported = {
        name.partition(".")[0]
        for path in [*(ROOT / "yourbert").rglob("*.py"), *(ROOT / "stages").glob("*.py")]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""])
    }
    # What comes with pydantic, with torch for a GPU, and with who passes a frame to `yourbert.load(..).predict`.
    ours = {"yourbert", "stages", "annotated_types", "triton", "pandas"}
    assert imported - set(sys.stdlib_module_names) - ours <= known
    assert set(EXTRAS) < set(PROJECT["optional-dependencies"])
