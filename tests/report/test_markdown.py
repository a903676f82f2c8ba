"""The report on a small made-up tree: the answer first, honest verdicts, the same bytes each time, no mixed files."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.closure import ROOT
from yourbert.config.schema import Params
from yourbert.config.yaml_file import read_yaml
from yourbert.core.cost import Cost
from yourbert.core.errors import UserError
from yourbert.core.storage import write_json
from yourbert.core.tasks import Split, Task
from yourbert.evaluation.metrics import Array
from yourbert.evaluation.predictions import evaluate_split, overall_scores, read_predictions, write_predictions
from yourbert.report.markdown import write_report
from yourbert.report.results import Cell
from yourbert.report.tables import plain, score, table

ROWS = 400
CLASSES = {"sst": ["0", "1", "2", "3", "4"], "quora": ["0.0", "1.0"], "cfimdb": ["0", "1"], "a_b": ["x|y", "z"]}
QUALITY = {"own": 0.6, "shared": 0.6}  # the share of rows that a model certainly knows


def params(tasks: list[str], mixtures: dict[str, list[str]], **changes: Any) -> Params:
    """params.yaml of the repository with other tasks, mixtures and settings."""
    values: dict[str, Any] = dict(read_yaml(ROOT / "params.yaml")[0])
    facts = {"train": "t", "dev": "d", "label": "l"}
    one = {**facts, "kind": "classification", "text": ["a"]}
    values["tasks"] = {
        name: {"data": {**one, "labels": CLASSES[name]} if name in CLASSES else similarity(facts)} for name in tasks
    }
    values["mixtures"] = {name: {"tasks": of, "sampling": "joint"} for name, of in mixtures.items()}
    values |= {"chains": [], "seeds": [1, 2], "corpus": "bundled"} | changes
    values["evaluate"] = {**values["evaluate"], "bootstrap": 200}
    values["report"] = {"permutations": 500, "alpha": 0.05}
    return Params.model_validate(values)


def similarity(facts: dict[str, str]) -> dict[str, Any]:
    return {**facts, "kind": "similarity", "text": ["a", "b"], "range": [0.0, 5.0]}


class Tree:
    """What `tokenize` and `evaluate` leave behind. quality: by run, or by (run, task)."""

    def __init__(
        self, root: Path, settings: Params, quality: Mapping[Any, float], tested: tuple[str, ...] = ()
    ) -> None:
        self.root, self.settings, self.quality, self.tested = root, settings, quality, tested
        for name, task in self.tasks.items():
            write_json(root / "tokens" / name / "task.json", {**task.to_json(), "lower_case": True})
            write_json(root / "metrics" / "data" / f"{name}.json", account(name))
        runs = {name: [name] for name in settings.tasks} | {m: x.tasks for m, x in settings.shared.items()}
        for run, names in runs.items():
            for seed in settings.seeds:
                self.evaluate(run, names, seed)

    @property
    def tasks(self) -> dict[str, Task]:
        return {name: block.data.facts(name) for name, block in self.settings.tasks.items()}

    def evaluate(self, run: str, names: list[str], seed: int) -> None:
        blocks: dict[str, Any] = {name: {} for name in names}
        for name in names:
            splits: tuple[Split, ...] = ("dev", "test") if name in self.tested else ("dev",)
            for split in splits:
                labels_R = gold(self.tasks[name], split)
                outputs = answers(self.tasks[name], labels_R, self.share(run, name), [seed, *run.encode()])
                path = self.root / "predictions" / run / str(seed) / f"{name}-{split}.csv"
                write_predictions(path, self.tasks[name], [f"r{i}" for i in range(ROWS)], outputs, labels_R)
                blocks[name][split] = evaluate_split(
                    self.tasks[name], split, outputs, labels_R, resamples=200, confidence=0.95
                )
        overall = overall_scores([self.tasks[name] for name in names], blocks)
        training = {"steps": 1000 + seed, "tokens": 1234567, "best_epoch": 2, "parameters": 22713600}
        write_json(self.metrics(run, seed), {**blocks, "overall": overall, "training": training})
        cost = Cost(seconds=100.0 * len(names), cpu_seconds=150.0, joules=3600.0 * seed, measured=run != "shared")
        write_json(self.root / "metrics" / "cost" / run / f"{seed}.json", cost.to_json())

    def share(self, run: str, task: str) -> float:
        return self.quality.get((run, task), self.quality["own" if run == task else run])

    def metrics(self, run: str, seed: int) -> Path:
        return self.root / "metrics" / "runs" / run / f"{seed}.json"

    def report(self, overlaps: dict[str, dict[str, int]] | None = None) -> tuple[str, dict[str, Any]]:
        out, summary = self.root / "report", self.root / "metrics" / "summary.json"
        metrics, predictions, tokens = (self.root / name for name in ("metrics", "predictions", "tokens"))
        write_report(self.settings, metrics, predictions, tokens, out, summary, overlaps)
        return (out / "report.md").read_text(encoding="utf-8"), json.loads(summary.read_text())

    def cost(self) -> str:
        self.report()
        return (self.root / "report" / "cost.md").read_text(encoding="utf-8")


def gold(task: Task, split: str) -> Array:
    rng = np.random.default_rng([*task.name.encode(), len(split)])
    return rng.integers(0, len(task.labels), ROWS) if task.labels else np.round(rng.random(ROWS) * 5, 1)


def answers(task: Task, labels_R: Array, quality: float, seed: list[int]) -> Array:
    rng = np.random.default_rng([*seed, *task.name.encode()])
    if not task.labels:
        return np.clip(labels_R + (1.1 - quality) * 4 * rng.normal(size=ROWS), 0, 5)
    guess_R = rng.integers(0, len(task.labels), ROWS)
    said_R = np.where(rng.random(ROWS) < quality, labels_R, guess_R)
    return 0.1 / len(task.labels) + 0.9 * np.eye(len(task.labels))[said_R]


SHARES = {"sts": {"mean": 2.5417, "sd": 1.4807}, "quora": {f"{n}": 100 + n for n in range(9)}}


def account(name: str) -> dict[str, Any]:
    one: dict[str, Any] = {"rows_read": 8544, "rows_used": 8541, "rows_rejected": 3, "truncated": 12}
    one |= {
        "file": f"{name}.csv",
        "length": {"p50": 21, "p90": 37, "p99": 50, "max": 1066},
        "labels": SHARES.get(name, {"a*b": 1, "c": 2}),
    }
    return {
        "splits": {"train": one, "dev": one},
        "overlap": {"dev_in_train": 16},
        "warnings": [f"D21 {name}.csv: 16 rows stand in <b>train</b> too"],
    }


THREE = ["sst", "quora", "sts"]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    quality: dict[Any, float] = {**QUALITY, ("shared", "sst"): 0.3, ("shared", "quora"): 0.9}
    settings = params(["sst", "cfimdb", "quora", "sts"], {"shared": THREE})
    return Tree(tmp_path_factory.mktemp("full"), settings, quality, tested=("sst", "sts"))


def section(text: str, title: str) -> str:
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def cells(text: str, first: str) -> list[str]:
    """The cells of the first table line that begins with `first`."""
    return lines(text, first)[0]


def lines(text: str, first: str) -> list[list[str]]:
    """The cells of every table line that begins with `first`."""
    found = [line for line in text.splitlines() if line.startswith(f"| {first} ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found]


def test_the_answer_comes_first_with_the_right_verdicts(full: Tree) -> None:
    text = full.report()[0]
    title, answer = text.split("\n\n")[:2]
    assert title == "# Which tailoring of BERT serves each task best"
    assert "**sst**: best served by its own model, accuracy 0." in answer and "over shared is real" in answer
    assert "**quora**: best served by shared, accuracy 0.9" in answer
    assert "is not real (p = " in answer.split("**sts**")[1]
    assert "**cfimdb** has its own model alone: accuracy 0." in answer
    assert answer.startswith("**shared**, one model for sst, quora and sts, is ")


def test_a_lead_that_no_digit_shows_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = answers

    def alike(task: Task, labels_R: Array, quality: float, seed: list[int]) -> Array:
        """A thousandth apart from model to model, whose names differ in length."""
        return np.clip(drawn(task, labels_R, quality, seed[:1]) + 1e-3 * np.sin(np.arange(ROWS) * len(seed)), 0, 5)

    monkeypatch.setattr(f"{__name__}.answers", alike)
    text, summary = Tree(tmp_path, params(["sts"], {"shared": ["sts"]}), QUALITY).report()
    assert 0 < abs(summary["comparisons"]["sts"]["shared"]["difference"]) < 0.0005
    assert "score the same, pearson 0." in text.split("**sts**")[1]


def test_the_table_has_tasks_by_tailorings(full: Tree) -> None:
    dev = section(full.report()[0], "Dev scores")
    assert cells(dev, "task") == ["task", "score", "model", "dev", "against own"]
    for task, verdict in zip(THREE, ("worse (-0.", "better (+0.", "no real change ("), strict=True):
        own, shared = lines(dev, task)
        assert (own[2], own[4], shared[2]) == ("own", "-", "shared") and shared[4].startswith(verdict)
        assert all(" ± " in line[3] and " to " in line[3] for line in (own, shared))
    assert [line[2] for line in lines(dev, "cfimdb")] == ["own"]
    assert [line[:3] for line in lines(dev, "overall: sst, quora, sts")] == [
        ["overall: sst, quora, sts", "mean of 0..1", run] for run in ("own", "shared")
    ]


def test_the_summary_says_the_same_in_numbers(full: Tree) -> None:
    text, summary = full.report()
    own = summary["sst"]["own"]
    seeds = [json.loads(full.metrics("sst", s).read_text())["sst"]["dev"]["accuracy"] for s in (1, 2)]
    assert own["mean"] == pytest.approx(np.mean(seeds), abs=1e-5)
    assert own["sd"] == pytest.approx(np.std(seeds, ddof=1), abs=1e-5)
    assert own["seeds"] == 2 and own["low"] < own["mean"] < own["high"]
    assert f"{own['mean']:.3f} ± {own['sd']:.3f} ({own['low']:.3f} to {own['high']:.3f})" in text
    found = summary["comparisons"]["sst"]["shared"]
    assert found["verdict"] == "worse" and found["difference"] < found["high"] < 0
    assert found["p"] <= found["p_holm"] <= 0.05
    assert summary["overall"]["shared"]["own"]["mean"] == pytest.approx(
        np.mean(
            [summary["sst"]["own"]["mean"], summary["quora"]["own"]["mean"], (summary["sts"]["own"]["mean"] + 1) / 2]
        ),
        abs=1e-4,
    )
    assert "test" in summary["sst"]["own"] and "test" not in summary["quora"]["own"]
    assert not any(isinstance(leaf, list) for leaf in leaves(summary))


def leaves(value: Any) -> list[Any]:
    return [leaf for inner in value.values() for leaf in leaves(inner)] if isinstance(value, dict) else [value]


def test_one_seeds_interval_is_that_of_its_metrics_file(tmp_path: Path) -> None:
    tree = Tree(tmp_path, params(["sts"], {}, seeds=[7]), QUALITY)
    text, summary = tree.report()
    stated = json.loads(tree.metrics("sts", 7).read_text())["sts"]["dev"]
    own = summary["sts"]["own"]
    assert (own["low"], own["high"]) == pytest.approx((stated["pearson_low"], stated["pearson_high"]), abs=1e-4)
    assert "sd" not in own and "±" not in section(text, "Dev scores").split("\n\n")[1]
    assert "Every model was trained once" in text


def test_test_scores_only_where_somebody_has_labels(full: Tree, tmp_path: Path) -> None:
    test = section(full.report()[0], "Test scores")
    assert cells(test, "sst") and cells(test, "sts") and "| quora" not in test and "overall" not in test
    text = Tree(tmp_path, params(["sst"], {}), QUALITY).report()[0]
    assert "## Test scores" not in text


def test_the_study_stands_beside_ours_with_a_warning_for_synthetic_data(full: Tree) -> None:
    study = section(full.report()[0], "Beside the study")
    assert cells(study, "sst (accuracy)")[1:4:2] == ["0.511", "0.306"]
    assert cells(study, "overall")[1] == "0.727" and cells(study, "cfimdb (accuracy)")[1] == "0.967"
    assert "synthetic" in study and "Not comparable" in study


def test_on_another_corpus_the_study_can_be_compared(tmp_path: Path) -> None:
    tree = Tree(tmp_path, params(["sst"], {}, corpus="../x|y/cs224n"), QUALITY)
    study = section(tree.report()[0], "Beside the study")
    assert "synthetic" not in study and "the corpus ../x\\|y/cs224n" in study


def test_tasks_that_the_study_does_not_have_leave_it_out(tmp_path: Path) -> None:
    assert "Beside the study" not in Tree(tmp_path, params(["a_b"], {}), QUALITY).report()[0]


def test_the_model_that_knows_quora_is_named(full: Tree, tmp_path: Path) -> None:
    assert "saw Quora question pairs" in full.report()[0]
    other = Tree(tmp_path, params(["quora"], {}, model="google-bert/bert-base-uncased"), QUALITY)
    assert "saw Quora" not in other.report()[0]


def test_rows_costs_and_overlaps_are_told(full: Tree) -> None:
    text = full.report(overlaps={"sts/dev": {"quora/train": 31}})[0]
    data = section(text, "The data")
    assert cells(data, "sst")[3:] == ["8,544", "8,541", "3", "12", "-"]
    told = {task: lines(data, task)[-1][2] for task in THREE}
    assert told["sst"] == "a\\*b: 33.3%, c: 66.7%" and told["sts"] == "mean 2.542, sd 1.481"
    assert told["quora"] == "9, from 0: 10.7% to 8: 11.5%", "too many to name them all"
    assert lines(data, "sts")[-1][3:] == ["21", "37", "1,066"]
    assert "16 rows stand in &lt;b&gt;train&lt;/b&gt; too" in data
    assert cells(data, "quora/train") == ["quora/train", "sts/dev", "31"]
    cost = section(text, "What training took")
    assert cells(cost, "shared") == ["shared", "sst, quora, sts", "1,001.5", "1,234,567", "2", "22,713,600"]
    assert "500 swaps" in text and "200 resamples" in text
    assert "Holm over all comparisons of the table (4; the same" in text


def test_cost_stands_beside_what_it_bought(full: Tree) -> None:
    page, own = full.cost(), full.report()[1]["sst"]["own"]["mean"]
    majority = np.bincount(gold(full.tasks["sst"], "dev")).max() / ROWS
    gained = 100 * (own - majority)
    assert cells(page, "sst")[2:6] == ["100", "150", "1.500", f"{gained:.1f}"]  # 3,600 and 7,200 joules
    assert float(cells(page, "sst")[6]) == pytest.approx(1.5 / gained, rel=1e-2)
    points = [float(cells(page, task)[5]) for task in THREE]
    together = cells(page, "own models, to set beside shared")
    assert together[2:5] == ["300", "450", "4.500"] and float(together[5]) == pytest.approx(sum(points), abs=0.11)
    assert cells(page, "shared")[2] == "300"
    assert "kwh_estimated" in page and "kwh_measured" in page and "pretraining" not in page


def test_a_chain_costs_what_it_goes_on_from_as_well(tmp_path: Path) -> None:
    chain = {"name": "last", "init": "pairs", "tasks": ["sts"], "sampling": "joint"}
    first = {"name": "pairs", "init": "sst", "tasks": ["quora", "sts"], "sampling": "joint"}
    settings = params(THREE, {}, chains=[chain, first])
    page = Tree(tmp_path, settings, QUALITY | {"pairs": 0.6, "last": 0.6}).cost()
    assert [cells(page, run)[2] for run in ("sst", "pairs", "last")] == ["100", "300", "400"]


def test_what_joining_brings_and_which_answers_it_changes(full: Tree) -> None:
    page = full.cost().split("## What a task gains")[1]
    sst, quora, sts = (cells(page, task) for task in THREE)
    assert sst[1:3] == ["shared", "quora, sts"] and sst[3].startswith("-0.") and sst[4].startswith("worse (p")
    assert quora[3].startswith("+0.") and float(quora[5]) > float(quora[6]) and float(sst[5]) < float(sst[6])
    assert sts[5:7] == ["-", "-"] and sst[7] == "3.0x" and sst[8] == "1.0x" and "| cfimdb" not in page

    lines = list(csv.DictReader((full.root / "report" / "changes.csv").open()))
    answers = {one["id"]: one for one in lines if one["task"] == "sst"}
    before, after = (
        [read_predictions(full.root / "predictions" / run / str(s) / "sst-dev.csv", full.tasks["sst"]) for s in (1, 2)]
        for run in ("sst", "shared")
    )
    labels_R = gold(full.tasks["sst"], "dev")
    said = [[min(a, b) for a, b in zip(*(one.predicted_R for one in run), strict=True)] for run in (before, after)]
    for row, (was, now) in enumerate(zip(*said, strict=True)):  # of two seeds that disagree the lower class counts
        one = answers.get(f"r{row}")
        changed = (was == labels_R[row]) != (now == labels_R[row])
        assert (one is not None) == changed
        if one:
            assert (one["label"], one["own"], one["joined"]) == (str(labels_R[row]), str(was), str(now))
            assert one["change"] == ("mended" if now == labels_R[row] else "spoilt")
    assert sum(one["task"] == "sts" for one in lines) == 20 and {one["mixture"] for one in lines} == {"shared"}


def test_no_energy_a_point_where_nothing_was_gained(tmp_path: Path) -> None:
    tree = Tree(tmp_path, params(["sst", "sts"], {}), {**QUALITY, "own": -1.0, ("sst", "sst"): -1.0})
    flatten(tree, "sts", 1)
    page = tree.cost()
    assert cells(page, "sts")[5:] == ["-", "-"]
    assert float(cells(page, "sst")[5]) < 0 and cells(page, "sst")[6] == "-"


def test_domain_pretraining_has_its_line(tmp_path: Path) -> None:
    tree = Tree(tmp_path, params(["sst"], {}), QUALITY)
    write_json(tmp_path / "metrics" / "pretrain.json", {"enabled": 1, "steps": 1200, "tokens": 9})
    cost = Cost(seconds=60.0, cpu_seconds=120.0, joules=7200.0)
    write_json(tmp_path / "metrics" / "cost" / "pretrain.json", cost.to_json())
    assert cells(tree.cost(), "domain pretraining, before all of these")[2:5] == ["60", "120", "2.000"]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, ""),
        ({"enabled": 0, "steps": 0, "tokens": 0}, "No domain pretraining"),
        ({"enabled": 1, "steps": 1200, "tokens": 9}, "domain pretraining, 1,200 steps over 9 tokens"),
    ],
)
def test_pretraining_is_told(tmp_path: Path, found: dict[str, int] | None, said: str) -> None:
    tree = Tree(tmp_path, params(["sst"], {}), QUALITY)
    if found:
        write_json(tmp_path / "metrics" / "pretrain.json", found)
    text = tree.report()[0]
    assert said in text and ("domain pretraining" in text) == bool(found)


def test_the_same_inputs_give_the_same_bytes(full: Tree) -> None:
    first = full.report(), full.cost(), (full.root / "report" / "changes.csv").read_bytes()
    assert first == (full.report(), full.cost(), (full.root / "report" / "changes.csv").read_bytes())


def test_tables_line_up(full: Tree) -> None:
    for above, below in pairwise(line for line in full.report()[0].splitlines() if line.startswith("|")):
        assert len(above) == len(below) or below.startswith(("| task", "| model", "| trained"))


def test_several_mixtures_one_of_a_single_task(tmp_path: Path) -> None:
    settings = params(THREE, {"shared": THREE, "pairs": ["quora", "sts"], "alone": ["sst"]})
    tree = Tree(tmp_path, settings, {**QUALITY, "pairs": 0.6, "alone": 0.6})
    text, summary = tree.report()
    dev = section(text, "Dev scores")
    assert [line[2] for line in lines(dev, "sst")] == ["own", "shared", "alone"]
    assert [line[2] for line in lines(dev, "overall: quora, sts")] == ["own", "pairs"]
    assert set(summary["overall"]) == {"shared", "pairs"}
    assert {row: set(by) for row, by in summary["comparisons"].items()} == {
        "sst": {"shared", "alone"},
        "quora": {"shared", "pairs"},
        "sts": {"shared", "pairs"},
        "overall": {"shared", "pairs"},
    }


def test_the_same_answers_are_tested_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain that leaves a task alone hands on what its first model says of it."""
    drawn = answers

    def handed_on(task: Task, labels_R: Array, quality: float, seed: list[int]) -> Array:
        run = bytes(seed[1:])
        return drawn(task, labels_R, quality, [seed[0], *(b"shared" if run == b"pairs" else run)])

    monkeypatch.setattr(f"{__name__}.answers", handed_on)
    settings = params(THREE, {"pairs": ["quora", "sts"], "shared": THREE})
    text, summary = Tree(tmp_path, settings, {**QUALITY, "pairs": 0.6}).report()
    for task in ("quora", "sts"):
        assert summary["comparisons"][task]["shared"] == summary["comparisons"][task]["pairs"]
    assert "over all comparisons of the table (5;" in text, "sst, quora, sts, and overall of two models"


def test_a_single_task_without_mixtures(tmp_path: Path) -> None:
    text, summary = Tree(tmp_path, params(["sst"], {}), QUALITY).report()
    assert "**sst** has its own model alone" in text and "against own" not in text and "Verdicts" not in text
    assert summary["comparisons"] == {} and summary["overall"] == {}


def test_an_undefined_score_is_said_not_written_as_nan(tmp_path: Path) -> None:
    tree = Tree(tmp_path, params(["sst", "sts"], {"shared": ["sst", "sts"]}), QUALITY)
    for run, seed in (("sts", 1), ("shared", 1)):
        flatten(tree, run, seed)
    text, summary = tree.report()
    assert "**sts**: pearson is undefined: every prediction is 2.5." in text
    undefined = [line[2:] for line in lines(section(text, "Dev scores"), "sts")]
    assert undefined == [["own", "undefined", "-"], ["shared", "undefined", "-"]]
    assert "NaN" not in text and "own" not in summary["sts"] and summary["overall"] == {}


def flatten(tree: Tree, run: str, seed: int) -> None:
    """Rewrites a seed's sts answers as one constant."""
    task, labels_R, flat_R = tree.tasks["sts"], gold(tree.tasks["sts"], "dev"), np.full(ROWS, 2.5)
    path = tree.root / "predictions" / run / str(seed) / "sts-dev.csv"
    write_predictions(path, task, [f"r{i}" for i in range(ROWS)], flat_R, labels_R)
    found = json.loads(tree.metrics(run, seed).read_text())
    found["sts"]["dev"] = evaluate_split(task, "dev", flat_R, labels_R, resamples=200, confidence=0.95)
    write_json(tree.metrics(run, seed), found)


def test_files_of_runs_long_gone_are_ignored(full: Tree) -> None:
    before = full.report()
    write_json(full.metrics("old", 1), {"sst": {"dev": {"accuracy": 1.0}}})
    write_json(full.metrics("sst", 99), {"broken": True})
    assert full.report() == before


def test_every_missing_file_is_named_with_the_fix(tmp_path: Path) -> None:
    tree = Tree(tmp_path, params(["sst", "sts"], {}), QUALITY)
    tree.metrics("sst", 1).unlink()
    (tmp_path / "predictions" / "sts" / "2" / "sts-dev.csv").unlink()
    with pytest.raises(UserError) as caught:
        tree.report()
    assert caught.value.exit_code == 5 and len(caught.value.problems) == 2
    assert "sst/1.json" in str(caught.value) and "sts-dev.csv" in str(caught.value)
    assert all("dvc repro" in str(problem) for problem in caught.value.problems)


def test_predictions_of_another_model_are_refused(tmp_path: Path) -> None:
    tree = Tree(tmp_path, params(["sst"], {}), QUALITY)
    found = json.loads(tree.metrics("sst", 1).read_text())
    found["sst"]["dev"]["accuracy"] += 0.01
    write_json(tree.metrics("sst", 1), found)
    with pytest.raises(UserError, match=r"C01.*sst-dev.csv: its accuracy is 0\.\d+, but .*1.json says"):
        tree.report()


def test_runs_scored_on_different_rows_are_refused(tmp_path: Path) -> None:
    tree = Tree(tmp_path, params(["sst"], {"shared": ["sst"]}), QUALITY)
    for seed in (1, 2):
        path = tmp_path / "predictions" / "shared" / str(seed) / "sst-dev.csv"
        path.write_text(path.read_text().replace("r7,", "other,"))
    with pytest.raises(UserError, match="'sst' and 'shared' were scored on different rows"):
        tree.report()


def test_too_few_swaps_for_a_verdict_are_pointed_out(tmp_path: Path) -> None:
    settings = params(["sst"], {"shared": ["sst"]})
    few = settings.model_copy(update={"report": settings.report.model_copy(update={"alpha": 0.001})})
    assert "Too few swaps" in Tree(tmp_path, few, QUALITY).report()[0]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", r"a\|b"),
        ("<script>&", "&lt;script&gt;&amp;"),
        ("[x](javascript:1)", r"\[x\](javascript:1)"),
        ("a_b *c* `d`", r"a_b \*c\* \`d\`"),
        ("_a_", r"\_a\_"),
        ("two\nlines\u202e", r"two\\nlines\\u202e"),
    ],
)
def test_names_cannot_become_markup(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_a_pipe_in_a_name_does_not_add_a_column() -> None:
    assert table(["task", "n"], [[plain("a|b"), "1"]]).splitlines()[-1] == r"| a\|b   |   1 |"


def test_a_score_of_one_seed_has_no_spread() -> None:
    assert score(Cell(seeds=(0.5,), low=0.4, high=0.6)) == "0.500 (0.400 to 0.600)"
    assert score(None) == "undefined"
