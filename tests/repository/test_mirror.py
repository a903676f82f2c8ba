"""The tests of `yourbert/<package>/<name>.py` lie in `tests/<package>/test_<name>.py`, or where `TESTED_IN` says."""

from __future__ import annotations

from pathlib import Path

from tests.support.closure import ROOT

OF_NO_MODULE = ("pipeline", "faults", "repository", "stages", "benchmarks")
# What has no file of its own name is tested through what uses it.
TESTED_IN = {
    "config/limits": "faults/test_early",
    "core/passages": "faults/test_early",
    # read on every way to rows, models and runs
    "core/tasks": "corpus/test_rows",
    "core/program": "repository/test_startup",
    "config/schema": "config/test_params",
    "runtime/progress": "download/test_web",
    # parts of one outcome: an account, a corpus, a page, a report, a checkpoint, a search
    "corpus/statistics": "tokens/test_tokenize_task",
    **dict.fromkeys(
        [f"corpus/bundled/{name}" for name in ("events", "lexicon", "names", "questions", "reviews", "sentiment",
        "topics")],
        "corpus/bundled/test_generate",
    ),
    "report/scores": "report/test_results",
    "report/published": "report/test_tables",
    "report/page/attributions": "report/page/test_render",
    "report/page/charts": "report/page/test_render",
    "tokens/tokenizer_settings": "download/test_tokenizer_files",
    "download/random_model": "pipeline/test_pipeline",
    "download/download": "pipeline/test_pipeline",
    "experiments/search/chart": "report/test_charts",
    "experiments/search/cost": "report/test_charts",
    "experiments/search/queue": "pipeline/test_pipeline",
    "experiments/git": "experiments/cluster/test_repository",
    "experiments/compare": "pipeline/test_compare",
    "doctor/trouble": "doctor/test_run",
    **dict.fromkeys(
        ["deploy/export/huggingface", "deploy/export/padded", "deploy/export/dev_scores"],
        "deploy/export/test_export",
    ),
    # kernels behind one interface are compared with the reference, whatever they are written in
    **dict.fromkeys(
        [f"training/fused/{name}" for name in ("embeddings", "interface", "layer", "plain")],
        "training/fused/test_fusion",
    ),
    **dict.fromkeys(
        [f"training/fused/{name}" for name in ("adamw", "attention", "embed", "rows")],
        "training/fused/test_kernels",
    ),
    "training/fused/weights": "training/fused/test_native",
    # what only puts others together
    "evaluation/evaluate": "deploy/test_batch",
    "finetuning/finetune": "pipeline/test_pipeline",
    # commands: their words are checked by one test, what they do where it is done
    "cli/compare": "pipeline/test_compare",
    "cli/doctor": "pipeline/test_pipeline",
    "cli/explain": "evaluation/test_explain",
    "cli/export": "repository/test_lean_install",
    "cli/init": "pipeline/test_own_task",
    "cli/options": "repository/test_documented_commands",
    "cli/predict": "deploy/test_batch",
    "cli/search": "pipeline/test_pipeline",
    "cli/serve": "deploy/serve/test_run",
    "cli/localize_skills": "repository/test_documented_commands",
    "cli/add_mixtures": "repository/test_documented_commands",
}  # fmt: skip


def names(folder: Path, pattern: str) -> set[str]:
    found = (path for path in folder.rglob(pattern) if path.name != "__init__.py")
    return {path.relative_to(folder).with_suffix("").as_posix() for path in found}


MODULES = names(ROOT / "yourbert", "*.py")
TESTS = names(ROOT / "tests", "test_*.py")


def mirrored(module: str) -> str:
    folder, _, name = module.rpartition("/")
    return f"{folder}/test_{name}"


def test_every_module_has_its_test_file_or_an_entry_that_names_another() -> None:
    assert sorted(module for module in MODULES if mirrored(module) not in TESTS and module not in TESTED_IN) == []


def test_every_test_file_is_named_after_a_module() -> None:
    others = {test for test in TESTS if test.split("/")[0] not in OF_NO_MODULE}
    assert sorted(others - {mirrored(module) for module in MODULES}) == []


def test_no_entry_is_stale() -> None:
    known = {module for module in TESTED_IN if module in MODULES and mirrored(module) not in TESTS}
    assert sorted(TESTED_IN.keys() - known) == [], "no such module, or it has a file now"
    assert sorted(set(TESTED_IN.values()) - TESTS) == [], "no such test file"
