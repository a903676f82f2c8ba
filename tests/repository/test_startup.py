"""What a command loads before it can answer: nothing heavy for help and a wrong word, no compiler for training."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.closure import ROOT
from tests.support.commands import YOURBERT

pytestmark = pytest.mark.integration

STAGES = sorted(p.stem for p in (ROOT / "stages").glob("*.py") if p.stem != "__init__")
HEAVY = ("torch", "numpy", "scipy", "sklearn", "transformers", "tokenizers", "pydantic", "yaml", "requests", "tqdm")
TASKS = list(yaml.safe_load((ROOT / "params.yaml").read_text())["tasks"])


def run(code: str, *words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *words], cwd=cwd, capture_output=True, text=True, check=False)


def stage(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"stages.{name}", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def shown_help(start: str, *words: str) -> str:
    """What the program that `start` starts prints for --help; fails where that loads anything heavy."""
    code = f"""
import runpy, sys
sys.argv[1:] = [*{words!r}, "--help"]
try:
    {start}
except SystemExit as end:
    print(end.code, sorted(set({HEAVY!r}) & set(sys.modules)))
"""
    done = run(code)
    assert done.stdout.endswith("0 []\n") and not done.stderr
    return " ".join(done.stdout.split())


@pytest.mark.parametrize("name", STAGES)
def test_help_says_what_a_stage_does_and_loads_nothing_heavy(name: str) -> None:
    about = shown_help(f"runpy.run_module('stages.{name}', run_name='__main__', alter_sys=True)")
    text = (ROOT / "stages" / f"{name}.py").read_text()
    assert text.split('"""')[1].split(": `")[0] in about
    for word in text.partition("def main(")[2].partition(")")[0].split(", "):
        assert not word or f"{word.split(':')[0]} a" in about, "each word is explained"


@pytest.mark.parametrize("words", [(), ("predict",), ("search",)])
def test_help_of_a_command_loads_nothing_heavy(words: tuple[str, ...]) -> None:
    assert "usage: " + " ".join(["yourbert", *words]) in shown_help(YOURBERT[-1], *words)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("finetune",), "required: name, seed"),
        (("finetune", TASKS[0]), "required: seed"),
        (("finetune", TASKS[0], "1", "2"), "unrecognized arguments: 2"),
        (("finetune", TASKS[0], "one"), "the seed 'one' is not a whole number"),
        (("finetune", TASKS[0], str(2**32)), "is not a whole number from 0 to 4294967295"),
        (("finetune", "quorra", "1"), "did you mean 'quora'?"),
        (("evaluate", "nothing", "1"), "is not a task, mixture or sequential model of params.yaml"),
        (("tokenize", "no\nthing"), r"'no\nthing' is not a task"),
        (("report", "x"), "unrecognized arguments: x"),
    ],
)
def test_a_wrong_word_is_one_line(words: tuple[str, ...], told: str) -> None:
    done = stage(*words)
    assert done.returncode == 2 and not done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("YB-P05") and told in line


@pytest.mark.parametrize("name", ["check", "download", "tokenize", "report"])
def test_a_stage_without_a_model_loads_no_torch(name: str) -> None:
    """Its imports alone, those that `main` begins with too; one under an `if` is for whoever asks for it."""
    code = f"""
import ast, sys
tree = ast.parse(open("stages/{name}.py").read())
bodies = [tree.body, *(n.body for n in tree.body if isinstance(n, ast.FunctionDef))]
imports = [n for body in bodies for n in body if isinstance(n, ast.ImportFrom)]
exec(compile(ast.Module(imports, []), "{name}", "exec"))
print(sorted({{"torch", "scipy", "sklearn", "transformers"}} & set(sys.modules)))
"""
    done = run(code)
    assert done.stdout == "[]\n", done.stdout + done.stderr


def test_training_does_not_load_the_compiler() -> None:
    """PyTorch would load it, 2 s of work, for determinism and for the first use of an optimizer."""
    code = """
import sys, torch
from yourbert.training.optimizer import adamw, optimizer_step
from yourbert.config.schema import Runtime
from yourbert.runtime.machine import prepare
prepare(Runtime(device="cpu", precision="fp32", num_threads=1, deterministic=False))
weight = torch.nn.Parameter(torch.ones(4, 4))
optimizer = adamw([weight], 0.01)
for group in optimizer.param_groups:
    group["lr"] = 0.1
(weight * 2).sum().backward()
optimizer_step(optimizer, [weight], 1.0)
assert not weight.requires_grad or (weight < 1).all() and weight.grad is None
assert torch.are_deterministic_algorithms_enabled() and torch.is_grad_enabled()
print(sorted({"torch._dynamo", "torch._inductor", "sympy"} & set(sys.modules)))
"""
    done = run(code)
    assert done.stdout == "[]\n", done.stdout + done.stderr
