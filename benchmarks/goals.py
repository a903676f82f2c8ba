"""What YourBERT is to reach, as one table, and whether a result file reaches it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from benchmarks.cases import DEFAULT, IN_TURN, OURS, OURS_FP32, PARITY, PIPELINE, TUNED, Suite
from benchmarks.results import Results

Measure = Literal["share", "times", "milliseconds", "floors", "seconds", "difference"]
UNITS: dict[Measure, str] = {
    "share": "of the matmul peak",
    "times": "",
    "milliseconds": "ms a step",
    "floors": "times its floor",
    "seconds": "s from process start",
    "difference": "",
}
AT_LEAST = ("share", "times")


@dataclass(frozen=True, kw_only=True)
class Goal:
    """cases: the goal is reached in the best of them. versus: the peer for "times"; the figure for "difference"."""

    suite: Suite
    cases: tuple[str, ...]
    measure: Measure
    target: float
    versus: str = ""
    variant: str = OURS

    @property
    def what(self) -> str:
        name = " or ".join(self.cases)
        who = "" if self.variant in (OURS, PARITY) else f", {self.variant}"
        match self.measure:
            case "times":
                return f"{name}{who}, against {self.versus}"
            case "difference":
                return f"{name}, {self.versus} of the packed and the padded model"
        return f"{name}{who}"

    @property
    def at_least(self) -> bool:
        return self.measure in AT_LEAST


@dataclass(frozen=True)
class Verdict:
    """figure: None where nothing was measured, which counts as short."""

    goal: Goal
    figure: float | None

    @property
    def passed(self) -> bool:
        if self.figure is None:
            return False
        return self.figure >= self.goal.target if self.goal.at_least else self.figure <= self.goal.target


def _against(suite: Suite, case: str, variant: str = OURS, **times: float) -> tuple[Goal, ...]:
    """Goals against peers: `default=5` is five times Trainer's default."""
    peers = {"default": DEFAULT, "tuned": TUNED, "pipeline": PIPELINE, "in_turn": IN_TURN}
    return tuple(
        Goal(suite=suite, cases=(case,), measure="times", target=target, versus=peers[peer], variant=variant)
        for peer, target in times.items()
    )


GOALS = (
    Goal(suite="cpu", cases=("train minilm sst 16",), measure="share", target=0.40),
    *_against("cpu", "train minilm sst 16", default=5, tuned=2),
    Goal(suite="cpu", cases=("train minilm sst 32",), measure="share", target=0.50),
    *_against("cpu", "train minilm sst 32", default=5, tuned=2),
    Goal(suite="cpu", cases=("train base sst 16",), measure="share", target=0.60),
    *_against("cpu", "train base sst 16", default=5, tuned=1.8),
    *_against("cpu", "train minilm sst 16", OURS_FP32, default=3),
    *_against("cpu", "predict minilm sst", pipeline=3),
    *_against("cpu", "predict minilm quora", pipeline=3),
    *(
        Goal(suite="cpu", cases=("parity minilm sst",), measure="difference", target=1e-5, versus=v, variant=PARITY)
        for v in ("loss", "logits")
    ),
    Goal(suite="cpu", cases=("start minilm sst",), measure="seconds", target=4),
    Goal(suite="gpu", cases=("train base sst 16",), measure="milliseconds", target=2.5),
    *_against("gpu", "train base sst 16", tuned=8),
    Goal(suite="gpu", cases=("train base sst 16",), measure="floors", target=2),
    Goal(suite="gpu", cases=("train base cfimdb 16k tokens", "mlm base all 16k tokens"), measure="share", target=0.5),
    *_against("gpu", "4 runs of each task base", in_turn=1.5),
    *_against("gpu", "predict base sst", pipeline=2),
    Goal(suite="gpu", cases=("whole base sst",), measure="seconds", target=15),
)


def evaluate(results: Results, goals: Iterable[Goal] = GOALS) -> list[Verdict]:
    """A verdict on each goal of the suite that the results are of."""
    return [Verdict(goal, figure(goal, results)) for goal in goals if goal.suite == results.facts["suite"]]


def figure(goal: Goal, results: Results) -> float | None:
    found = [value for case in goal.cases if (value := _figure(goal, case, results)) is not None]
    return None if not found else max(found) if goal.at_least else min(found)


def _figure(goal: Goal, case: str, results: Results) -> float | None:
    match goal.measure:
        case "times":
            spread = results.times(case, goal.variant, goal.versus)
        case "difference":
            return results.largest(case, goal.variant, goal.versus)
        case "share":
            spread = results.share(case, goal.variant)
        case "floors":
            spread = results.floors(case, goal.variant)
        case "milliseconds" | "seconds":
            spread = results.milliseconds(case, goal.variant)
    if spread is None:
        return None
    return spread.median / 1000 if goal.measure == "seconds" else spread.median


def shown(goal: Goal, value: float | None) -> str:
    """A figure or target in the goal's unit."""
    if value is None:
        return "not measured"
    match goal.measure:
        case "share":
            return f"{value:.1%}"
        case "difference":
            return f"{value:.1e}"
        case "times":
            return f"{value:.2f}x"
    return f"{value:.2f}"


def table(verdicts: Iterable[Verdict]) -> list[list[str]]:
    """(what, target, figure, pass or short) of each."""
    return [
        [
            v.goal.what,
            f"{'>=' if v.goal.at_least else '<='} {shown(v.goal, v.goal.target)} {UNITS[v.goal.measure]}".strip(),
            shown(v.goal, v.figure),
            "pass" if v.passed else "short",
        ]
        for v in verdicts
    ]


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """0 when every goal is reached."""
    return 0 if all(v.passed for v in verdicts) else 1
