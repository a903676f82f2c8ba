"""The harness itself, on a model of two layers: every variant is asked the same and what is left out is said."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks import interleave, side_by_side
from benchmarks.cases import SEEDS, Case
from benchmarks.goals import GOALS, exit_code
from benchmarks.goals import evaluate as judged
from benchmarks.interleave import SURE_ROUNDS, Options, Run, order
from benchmarks.results import Results
from benchmarks.rows import examples
from benchmarks.run import _changed, joined
from tests.benchmarks.conftest import SHAPE
from tests.support.closure import ROOT, imports
from yourbert.core.errors import UserError
from yourbert.tokens.packing import PackedSplit

pytestmark = pytest.mark.integration


def test_ours_and_the_plain_loop(options: Options, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setattr(interleave, "missing", lambda variant: ["accelerate"] if variant == "hf-default" else [])
    monkeypatch.chdir(ROOT)
    cases = [
        Case(kind="train", variants=("ours", "hf-default", "plain-loop"), shape=SHAPE, batch=8, steps=3, rounds=2),
        Case(kind="parity", variants=("parity",), shape=SHAPE, batch=8, rounds=1),
        Case(kind="predict", variants=("ours",), shape=SHAPE, task="nowhere", steps=1, rounds=2),
    ]
    facts = Run("cpu", cases, options).measure()
    blocks = {(b["case"], b["variant"], b["round"]): b for b in facts["blocks"]}
    step, parity, broken = (case.name for case in cases)
    assert set(blocks) == {(step, v, r) for v in ("ours", "plain-loop") for r in (0, 1)} | {(parity, "parity", 0)}
    asked = [(b["round"], b["variant"]) for b in facts["blocks"] if b["case"] == step]
    assert asked == [(0, "ours"), (0, "plain-loop"), (1, "plain-loop"), (1, "ours")], "every other round in reverse"
    for number in (0, 1):
        ours, plain = blocks[step, "ours", number], blocks[step, "plain-loop", number]
        assert ours["seconds"] > 0 and plain["seconds"] > 0 and ours["rows"] == plain["rows"] == 24
        assert ours["tokens"] == plain["tokens"] and ours["flops"] == plain["flops"] > 0, "the same rows"
        assert ours["threads"] == plain["threads"] == 1
    assert blocks[step, "ours", 0]["tokens"] != blocks[step, "ours", 1]["tokens"], "other rows in another round"
    assert max(blocks[parity, "parity", 0]["values"].values()) < 1e-5
    why = {(entry["case"], entry["variant"]): entry["why"] for entry in facts["left_out"]}
    assert "accelerate" in why[step, "hf-default"] and why[broken, "ours"]
    said = capsys.readouterr().out
    assert said.count("left out: ") == 2 and f"{step}, hf-default: not installed" in said, "once, not every round"
    results = Results(facts)
    assert results.times(step, "ours", "plain-loop") and results.share(step, "ours")
    assert str(options.corpus.parent) not in str({k: v for k, v in facts.items() if k != "left_out"})
    assert exit_code(judged(results)) == 1, "none of the goals' cases was measured"


def test_runs_in_turn_and_at_once(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    case = Case(kind="runs", variants=("ours", "ours-in-turn"), shape=SHAPE, task="all", batch=8, steps=2, rounds=1)
    facts = Run("cpu", [case], options).measure()
    assert not facts["left_out"]
    at_once, in_turn = facts["blocks"]
    assert at_once["steps"] == in_turn["steps"] == SEEDS * 2, "the steps of every seed of the only task"
    assert at_once["rows"] == in_turn["rows"] == SEEDS * 2 * 8 and at_once["tokens"] == in_turn["tokens"] > 0
    assert Results(facts).times(case.name, "ours", "ours-in-turn")


def test_a_run_that_fails_keeps_no_other_waiting(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    case = Case(kind="runs", variants=("ours",), shape=SHAPE, task="all", batch=8, steps=2, rounds=1)
    job = Run("cpu", [case], options)._job(0, case)
    (tokens := options.scratch / "fewer").mkdir()
    shutil.copytree(options.tokens / "sst", tokens / "sst")
    (tokens / "sst" / "task.json").unlink()
    with pytest.raises(UserError, match=r"C01 .*task\.json"):
        side_by_side.answer(replace(job, tokens=str(tokens)), in_turn=False)


def test_the_order_of_rounds() -> None:
    wanted = GOALS[0].cases[0]
    goal = Case(kind="train", variants=(), rounds=SURE_ROUNDS + 1)
    other = Case(kind="whole", variants=(), rounds=3)
    assert goal.name == wanted
    steps = [(number, case.kind) for number, case in order([other, goal])]
    assert steps[:2] == [(0, "whole"), (0, "train")], "first rounds come first, as the suite has them"
    assert steps[2:4] == [(1, "train"), (2, "train")], "then a goal's cases get their rounds"
    assert sorted(steps) == sorted([(n, "train") for n in range(4)] + [(n, "whole") for n in range(3)])


def test_no_round_begins_after_the_minutes(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(kind="train", variants=(), shape=SHAPE, rounds=5)
    run = Run("cpu", [case], Options(**vars(options) | {"minutes": 0.0}))
    begun: list[int] = []
    monkeypatch.setattr(run, "_round", lambda number, case: begun.append(number))
    run.measure()
    assert begun == [0]


def test_examples_are_the_packed_rows() -> None:
    split = PackedSplit(
        tokens=np.array([2, 7, 3, 2, 8, 3, 9, 3]),
        offsets=np.array([0, 3, 8]),
        second=np.array([3, 3]),
        labels=np.array([1, 0]),
        sequences_per_row=1,
    )
    assert examples(split, np.array([1, 0])) == [
        {"input_ids": [2, 8, 3, 9, 3], "token_type_ids": [0, 0, 0, 1, 1], "labels": 0},
        {"input_ids": [2, 7, 3], "token_type_ids": [0, 0, 0], "labels": 1},
    ]


def test_our_side_needs_neither_dvc_nor_a_peer() -> None:
    """So that it runs on a borrowed machine that has little more than torch."""
    code = "import sys, benchmarks.run, benchmarks.ours; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"dvc", "transformers", "sklearn", "scipy", "tabulate", "matplotlib", "requests", "pyarrow"}


def test_the_library_knows_no_benchmark() -> None:
    for path in [*(ROOT / "yourbert").rglob("*.py"), *(ROOT / "stages").glob("*.py")]:
        assert "benchmarks" not in path.read_text(), path
    assert list(imports(ROOT / "benchmarks" / "ours.py")), "the other way round it is fine"


def test_results_of_two_commands_are_joined_where_nothing_differs_but_the_cases() -> None:
    machine = {"processor": "p", "gpu": "", "packages": {}, "revision": "r", "changed_files": 0, "load_at_end": 2.0}

    def found(case: str, **changes: object) -> dict[str, Any]:
        own = machine | {"threads": [1], "load_at_start": 1.0} | changes
        lists = {"blocks": [case], "peaks": [case], "left_out": []}
        return {"suite": "cpu", "machine": own, "command": case, "cases": {case: {}}, "minutes": 1.5, **lists}

    both = joined(found("a", load_at_start=0.5), found("b", threads=[2]))
    assert both["blocks"] == both["peaks"] == list(both["cases"]) == ["a", "b"] and both["command"] == "a; b"
    assert both["minutes"] == 3 and both["machine"]["threads"] == [1, 2] and both["machine"]["load_at_start"] == 0.5
    for other in (found("a"), found("b", revision="s"), found("b") | {"suite": "gpu"}):
        with pytest.raises(UserError, match="P05"):
            joined(found("a"), other)


def test_variants_that_are_named_take_part_alone() -> None:
    named = argparse.Namespace(steps=0, rounds=0, variants="ours,hf-tuned")
    case = Case(kind="train", variants=("ours", "ours-fp32", "hf-tuned"))
    assert _changed(case, named).variants == ("ours", "hf-tuned")
