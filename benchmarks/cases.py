"""What is measured: the cases of each suite, the variants that take part, and what a variant is asked and answers.

A case is measured in rounds. In a round every variant gets the same question in turn and answers with one block: a few
steps that do not count, then those that do. Rounds use different batches, the variants of a round the same.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from typing import Any, Literal

Kind = Literal["train", "mlm", "runs", "predict", "tokenize", "start", "whole", "parity"]
Suite = Literal["cpu", "gpu", "ladder"]
Device = Literal["cpu", "cuda"]

OURS, OURS_FP32, IN_TURN = "ours", "ours-fp32", "ours-in-turn"
DEFAULT, TUNED = "hf-default", "hf-tuned"
PLAIN, CROSS = "plain-loop", "cross-encoder"
PIPELINE, PIPELINE_BF16 = "hf-pipeline", "hf-pipeline-bf16"
TOKENIZER, PARITY = "hf-tokenizer", "parity"
# YourBERT without one of its tricks, or without any: each variant and what is off in it (`benchmarks.switches`; "bf16"
# is the parameter). oneDNN computes the fp32 products, so it is fp32 that has to do without it.
TRICKS = (
    "bf16", "onednn", "fused", "memory", "used-pieces", "attention", "dropout", "optimizer", "first-token",
    "round-shapes",
)  # fmt: skip
# What plain layers have and fused ones have otherwise: left out together with those.
OF_PLAIN_LAYERS = ("attention", "dropout", "optimizer")
WITHOUT: dict[str, tuple[str, ...]] = {
    OURS_FP32: ("bf16",),
    **{
        f"no-{trick}": ("fused", trick) if trick in OF_PLAIN_LAYERS else (trick,)
        for trick in TRICKS
        if trick not in ("bf16", "onednn")
    },
    "no-onednn": ("bf16", "onednn"),
    "no-tricks": TRICKS,
}

# The variants, in the order in which tables show them, and the packages each needs; docs/performance.md describes them.
NEEDS: dict[str, tuple[str, ...]] = {
    OURS: (),
    OURS_FP32: (),
    DEFAULT: ("transformers", "accelerate"),
    TUNED: ("transformers", "accelerate"),
    PLAIN: ("transformers",),
    CROSS: ("transformers", "accelerate", "sentence_transformers", "datasets"),
    PIPELINE: ("transformers",),
    PIPELINE_BF16: ("transformers",),
    TOKENIZER: ("transformers",),
    PARITY: ("transformers",),
    **dict.fromkeys(WITHOUT, ()),
    IN_TURN: (),
}
# The real weights, and shapes drawn at random: speed does not depend on the weights.
SHAPES = {"minilm": (6, 384), "base": (12, 768)}
TOKENIZED_ROWS = 50_000
# Of each task, where runs are measured beside each other.
SEEDS = 4


@dataclass(frozen=True, kw_only=True)
class Case:
    """shape: whose weights; task: whose rows. batch: rows a step; 0 with `tokens` for as many as hold that many real
    tokens. warmup, steps: of a block. rounds: at most so many. epochs: of a whole run."""

    kind: Kind
    variants: tuple[str, ...]
    shape: str = "minilm"
    task: str = "sst"
    batch: int = 16
    tokens: int = 0
    warmup: int = 2
    steps: int = 5
    rounds: int = 5
    epochs: int = 1

    @property
    def name(self) -> str:
        """The key of the case in results and goals."""
        size = f"{self.tokens // 1024}k tokens" if self.tokens else str(self.batch)
        match self.kind:
            case "train" | "mlm":
                return f"{self.kind} {self.shape} {self.task} {size}"
            case "runs":
                return f"{SEEDS} runs of each task {self.shape}"
            case "tokenize":
                return f"{self.kind} {TOKENIZED_ROWS} pairs"
        return f"{self.kind} {self.shape} {self.task}"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One question to a variant. Paths are strings: a job travels as JSON.

    weights: the folder of the encoder. tokens: the folder with a folder per task. corpus: the tasks' files; "" where
    there are none. scratch: a folder for what must be written. rows: the texts' file for "tokenize". training: the
    keys of `yourbert.config.params.Training`. params: the params.yaml to read the rest from. seed: of this round.
    """

    kind: str
    task: str
    weights: str
    tokens: str
    corpus: str
    scratch: str
    params: str
    rows: str
    training: dict[str, Any]
    data: dict[str, Any]
    batch: int
    warmup: int
    steps: int
    seed: int
    device: Device
    bf16: bool
    threads: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Block:
    """One answer: the seconds of `steps` steps and what they read; zero for what does not apply.

    tokens: real ones. flops: counted as `benchmarks.cost` says. dtype: what was computed in. note: what a variant
    chose itself. values: figures other than times.
    """

    seconds: float
    steps: int = 1
    rows: int = 0
    tokens: int = 0
    flops: float = 0.0
    dtype: str = ""
    threads: int = 0
    note: str = ""
    values: dict[str, float] = field(default_factory=dict)


def missing(variant: str) -> list[str]:
    """The packages that a variant needs and this environment lacks."""
    return [package for package in NEEDS[variant] if find_spec(package) is None]


TRAINERS = (OURS, DEFAULT, TUNED)
# The tricks that might matter for long texts; all variants at once would not fit into memory.
LONG = (OURS, "no-fused", "no-memory", "no-attention", "no-first-token")
SUITES: dict[Suite, tuple[Case, ...]] = {
    "cpu": (
        Case(kind="train", variants=(OURS, OURS_FP32, DEFAULT, TUNED, PLAIN), warmup=3, steps=10),
        Case(kind="train", variants=TRAINERS, batch=32, warmup=3, steps=8),
        Case(kind="train", variants=TRAINERS, shape="base", rounds=3),
        Case(kind="predict", variants=(OURS, PIPELINE, PIPELINE_BF16), steps=1, rounds=3),
        Case(kind="parity", variants=(PARITY,), steps=1, rounds=1),
        Case(kind="train", variants=(*TRAINERS, CROSS), task="sts", rounds=3),
        Case(kind="train", variants=(*TRAINERS, CROSS), task="quora", rounds=3),
        Case(kind="train", variants=TRAINERS, task="cfimdb", rounds=3),
        Case(kind="predict", variants=(OURS, PIPELINE, PIPELINE_BF16), task="quora", steps=1, rounds=3),
        Case(kind="mlm", variants=TRAINERS, task="all", batch=32, rounds=3),
        Case(kind="tokenize", variants=(OURS, TOKENIZER), task="rows", steps=1, rounds=3),
        Case(kind="start", variants=TRAINERS, warmup=0, steps=1, rounds=3),
        Case(kind="whole", variants=TRAINERS, steps=1, rounds=1),
    ),
    "gpu": (
        Case(kind="train", variants=(*TRAINERS, PLAIN), shape="base", warmup=20, steps=60),
        Case(kind="train", variants=TRAINERS, shape="base", task="cfimdb", tokens=16384, warmup=10, steps=20),
        Case(kind="mlm", variants=TRAINERS, shape="base", task="all", tokens=16384, warmup=10, steps=20),
        Case(kind="predict", variants=(OURS, PIPELINE, PIPELINE_BF16), shape="base", steps=3),
        Case(kind="train", variants=(*TRAINERS, CROSS), shape="base", task="sts", warmup=20, steps=60, rounds=3),
        Case(kind="train", variants=(*TRAINERS, CROSS), shape="base", task="quora", warmup=20, steps=60, rounds=3),
        Case(kind="runs", variants=(OURS, IN_TURN), shape="base", task="all", warmup=40, steps=120, rounds=1),
        Case(kind="start", variants=TRAINERS, shape="base", warmup=0, steps=1, rounds=3),
        Case(kind="whole", variants=TRAINERS, shape="base", steps=1, rounds=2, epochs=3),
    ),
    "ladder": (
        Case(kind="train", variants=(OURS, *WITHOUT), warmup=3, steps=10),
        Case(kind="train", variants=LONG, task="cfimdb", warmup=3, steps=5, rounds=3),
    ),
}
