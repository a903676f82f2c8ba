"""Each gate bites: a library with one line made wrong on purpose fails the tests that stand for that line.

Every mutant is a mistake somebody could make, in a place where nothing else would notice: a file that is not flushed, a
label that is rounded, a seed that is forgotten.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.closure import ROOT

FAILED = 1  # what pytest ends with when a test failed
PARTS = ("yourbert", "stages", "tests", "benchmarks", "params.yaml", "dvc.yaml", "pyproject.toml", "README.md")


@dataclass(frozen=True)
class Mutant:
    """In `file`, `old` (which stands there once) becomes `new`; `tests` are the words that pytest is given."""

    file: str
    old: str
    new: str
    tests: str


MUTANTS = {
    "unflushed": Mutant("core/storage.py", "        _flush(part)\n", "", "tests/core/test_storage.py"),
    "folder unflushed": Mutant("core/storage.py", "        _flush(path.parent)\n", "", "tests/core/test_storage.py"),
    "written in place": Mutant(
        "core/storage.py",
        'part = path.with_name(f".{path.name}.{os.getpid()}.part")',
        "part = path",
        "tests/core/test_storage.py",
    ),
    "hash not compared": Mutant(
        "core/storage.py",
        ' or sha256_of(path) != entry["sha256"]',
        "",
        "tests/inference/test_model_folder.py tests/faults/test_models.py",
    ),
    "damaged state used": Mutant(
        "training/checkpoint.py",
        'if metadata.get("sha256") != _digest(tensors, metadata.get("history", "")):',
        "if not tensors:",
        "tests/faults/test_models.py",
    ),
    "moments forgotten": Mutant(
        "training/checkpoint.py",
        "if moments := optimizer.state.get(p):",
        "if moments := None:",
        "tests/training/test_checkpoint.py -k interrupted",
    ),
    "draws not of the step": Mutant(
        "finetuning/learner.py",
        'seed_of(self.seed, "dropout", name, step, ',
        'seed_of(self.seed, "dropout", name, ',
        "tests/finetuning/test_learner.py -k dropout",
    ),
    "second writer": Mutant(
        "core/locks.py",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        "tests/training/test_checkpoint.py -k writer",
    ),
    "lock without a name": Mutant(
        "core/locks.py", "        if _names(path, descriptor):\n", "        if True:\n", "tests/core/test_locks.py"
    ),
    "not finite goes on": Mutant(
        "training/loop.py",
        "        if not torch.isfinite(norm):\n",
        "        if False:\n",
        "tests/training/test_loop.py -k finite",
    ),
    "mean of means": Mutant(
        "finetuning/learner.py",
        "self.mixture.loss_weights.get(name, 1.0) * total / len(rows_B)",
        "self.mixture.loss_weights.get(name, 1.0) * total / len(part_B)",
        "tests/finetuning/test_learner.py -k micro_batches",
    ),
    "label rounded": Mutant(
        "corpus/rows.py",
        "        index = self.keys.get(label_key(text))\n",
        '        index = self.keys.get(label_key(text.split(".")[0]))\n',
        "tests/corpus/test_rows.py",
    ),
    "row lost in silence": Mutant(
        "corpus/rows.py",
        "            counts.reject(line, row[0].code, row[0].what.removeprefix(f\"task '{self.name}', \"))\n",
        "",
        "tests/corpus/test_rows.py",
    ),
    "stray quote swallows": Mutant(
        "corpus/delimited.py",
        "if len(pending) > 1 and self._merges_rows():",
        "if False:",
        "tests/corpus/test_delimited.py tests/corpus/test_rows.py",
    ),
    "texts see each other": Mutant(
        "model/attention.py",
        ".add_(group.bias_N11L.to(scores_BLL.dtype))",
        ".add_(0)",
        "tests/model/test_attention.py tests/model/test_encoder.py",
    ),
    "answers out of order": Mutant(
        "inference/predict.py",
        "outputs[batch.rows_B] = of_batch if mine else 0",
        "outputs[np.sort(batch.rows_B)] = of_batch if mine else 0",
        "tests/inference",
    ),
    "aliases unfolded": Mutant(
        "config/yaml_file.py",
        "isinstance(event, yaml.AliasEvent)",
        "False",
        "tests/config/test_params.py tests/faults/test_params.py -k P14",
    ),
    "swaps not counted": Mutant(
        "evaluation/significance.py",
        "return (1 + len(swapped_P) - milder)",
        "return (len(swapped_P) - milder)",
        "tests/evaluation/test_significance.py",
    ),
    "uncorrected": Mutant(
        "evaluation/significance.py",
        "(len(p_values) - rank) * p_values[index]",
        "p_values[index]",
        "tests/evaluation/test_significance.py",
    ),
    "annealed the wrong way": Mutant(
        "finetuning/sampling.py",
        "1.0 - ANNEALED_BY * epoch / max(1, epochs - 1)",
        "1.0 - ANNEALED_BY + ANNEALED_BY * epoch / max(1, epochs - 1)",
        "tests/finetuning/test_sampling.py",
    ),
    "mended while used": Mutant(
        "doctor/run.py",
        "    if busy and fix:\n",
        "    if False:\n",
        "tests/doctor/test_run.py tests/doctor/test_owner.py",
    ),
    "accents always stripped": Mutant(
        "tokens/tokenizer.py",
        "strip_accents=settings.strip_accents,",
        "strip_accents=None,",
        "tests/download/test_tokenizer_files.py -k accents",
    ),
    "the side of truncation stays here": Mutant(
        "deploy/export/export.py",
        'sides.pop() if len(sides) == 1 else "right"',
        '"right"',
        "tests/pipeline/test_input_facts.py -k cased",
    ),
    "pins not compared": Mutant(
        "download/mirrors.py",
        "if (actual := sha256_of(work / file)) != sha256:",
        "if not (actual := sha256_of(work / file)):",
        "tests/download/test_mirrors.py -k other_content",
    ),
}


def mutated(folder: Path, mutant: Mutant) -> None:
    """A copy of the project with the one mistake in it."""
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "results"))
        else:
            shutil.copy(ROOT / part, folder / part)
    path = folder / "yourbert" / mutant.file
    text = path.read_text()
    assert text.count(mutant.old) == 1, f"{mutant.old!r} should stand in {mutant.file} once"
    path.write_text(text.replace(mutant.old, mutant.new))


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_the_tests_that_stand_for_it_fail(tmp_path: Path, name: str) -> None:
    mutant = MUTANTS[name]
    mutated(tmp_path / "project", mutant)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "-m",
        "not slow and not cuda",
        *mutant.tests.split(" "),
    ]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "project"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=tmp_path / "project", env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == FAILED, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.parametrize("name", MUTANTS)
def test_each_mistake_can_still_be_made(name: str) -> None:
    """The line that is to be made wrong is there, once."""
    mutant = MUTANTS[name]
    assert (ROOT / "yourbert" / mutant.file).read_text().count(mutant.old) == 1
