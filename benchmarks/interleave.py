"""Variants of a case one after the other, round by round, each in a process of its own.

A worker sleeps while others are measured; every other round goes in reverse order; the peak of the matrix products is
measured in every round of every case. The first round is always finished; further ones, first of the cases that a goal
is about, are begun while the minutes last. What is left out is said.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks import goals, machine
from benchmarks.cases import OURS, TOKENIZED_ROWS, Case, Device, Job, Suite, missing
from yourbert.config.params import read_params
from yourbert.config.schema import Params
from yourbert.core.errors import fail

OWN_PROCESS = ("start", "whole")
SEED = 11711
# Rounds of a case with a goal that go before the second round of one without.
SURE_ROUNDS = 3


@dataclass(frozen=True, kw_only=True)
class Options:
    """own: the folder of the real weights and the vocabulary. minutes: after which no further round begins."""

    own: Path = Path("build/base")
    tokens: Path = Path("build/tokens")
    corpus: Path = Path("build/corpus")
    scratch: Path = Path("build/bench")
    params: Path = Path("params.yaml")
    threads: int = 0
    minutes: float = 17.0


@dataclass
class Worker:
    """The process of one variant."""

    variant: str
    options: Options
    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        environment = dict(os.environ, HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", PYTHONUNBUFFERED="1")
        # One GPU for everyone: a Trainer would spread over all it sees.
        environment.setdefault("CUDA_VISIBLE_DEVICES", "0")
        if self.options.threads:
            count = str(self.options.threads)
            environment |= {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "RAYON_NUM_THREADS": count}
        self.log = self.options.scratch / f"{self.variant}.log"
        with self.log.open("a") as log:
            command = [sys.executable, "-m", "benchmarks.worker", self.variant]
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
            )

    def ask(self, job: Job) -> dict[str, Any]:
        """A block's fields, or {"error": why}."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(job.to_json()) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return {"error": "its process is gone"}
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": f"its process ended with {self.process.wait()}"}

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


class Run:
    """One run over a suite's cases; `facts` is what the result file holds."""

    def __init__(self, suite: Suite, cases: Sequence[Case], options: Options) -> None:
        from benchmarks.rows import as_peers_read

        self.cases, self.options = cases, options
        self.params: Params = as_peers_read(read_params(options.params))
        self.device: Device = "cuda" if suite == "gpu" else "cpu"
        self.bf16 = _computes_bf16(self.device)
        self.workers: dict[str, Worker] = {}
        self.left_out: dict[tuple[str, str], str] = {}
        self.weights = {shape: self._weights(shape) for shape in sorted({case.shape for case in cases})}
        self.facts: dict[str, Any] = {
            "suite": suite,
            "command": machine.command("benchmarks.run"),
            "machine": machine.facts(self.device) | {"computes_bf16": self.bf16, "load_at_start": machine.load()},
            "corpus": machine.named(str(options.corpus)),
            "cases": {case.name: self._describe(case) for case in cases},
            "blocks": [],
            "peaks": [],
        }
        self.started = time.monotonic()

    def measure(self) -> dict[str, Any]:
        """All rounds that fit into the minutes."""
        self.options.scratch.mkdir(parents=True, exist_ok=True)
        for log in self.options.scratch.glob("*.log"):
            log.unlink()
        cost: dict[str, float] = {}
        try:
            for number, case in order(self.cases):
                left = 60 * self.options.minutes - (time.monotonic() - self.started)
                if number and cost[case.name] > left:
                    continue
                begun = time.monotonic()
                self._round(number, case)
                cost[case.name] = time.monotonic() - begun
        finally:
            for worker in self.workers.values():
                worker.close()
        threads = {block["threads"] for block in self.facts["blocks"]}
        if len(threads) > 1:
            print(f"the variants did not all have as many threads: {threads}; name a number with --threads", flush=True)
        self.facts["machine"] |= {"threads": sorted(threads), "load_at_end": machine.load()}
        self.facts["minutes"] = round((time.monotonic() - self.started) / 60, 1)
        self.facts["left_out"] = [{"case": c, "variant": v, "why": why} for (c, v), why in self.left_out.items()]
        return self.facts

    def _round(self, number: int, case: Case) -> None:
        job = self._job(number, case)
        if case.kind in ("train", "mlm", "predict"):
            self._note_peaks(number, case, job)
        for variant in case.variants if number % 2 == 0 else reversed(case.variants):
            if (case.name, variant) in self.left_out:
                continue
            lacking = missing(variant)
            reply = {"error": f"not installed: {', '.join(lacking)} (`make bench` does)"} if lacking else None
            reply = reply or self._ask(variant, job)
            if "error" in reply:
                self.left_out[case.name, variant] = reply["error"]
                log = "" if lacking else f" (see {self.options.scratch / variant}.log)"
                print(f"left out: {case.name}, {variant}: {reply['error']}{log}", flush=True)
                continue
            self.facts["blocks"].append({"round": number, "case": case.name, "variant": variant, **reply})
            print(f"round {number + 1}, {case.name}, {variant}: {_shown(reply)}", flush=True)

    def _ask(self, variant: str, job: Job) -> dict[str, Any]:
        if job.kind in OWN_PROCESS:
            begun = time.perf_counter()
            worker = Worker(variant, self.options)
            reply = worker.ask(job)
            seconds = time.perf_counter() - begun
            worker.close()
            return reply if "error" in reply else reply | {"seconds": seconds}
        if variant not in self.workers or self.workers[variant].process.poll() is not None:
            self.workers[variant] = Worker(variant, self.options)
        return self.workers[variant].ask(job)

    def _note_peaks(self, number: int, case: Case, job: Job) -> None:
        reply = self._ask(OURS, replace(job, kind="peaks"))
        if "error" in reply:
            print(f"no peak: {case.name}: {reply['error']}", flush=True)
            return
        self.facts["peaks"].append({"round": number, "case": case.name, "values": reply["values"]})

    def _weights(self, shape: str) -> Path:
        from benchmarks.rows import weights_of_shape

        return weights_of_shape(shape, self.options.own, self.options.scratch)

    def _describe(self, case: Case) -> dict[str, Any]:
        from benchmarks.cost import weights_of
        from yourbert.core.storage import read_json
        from yourbert.model.encoder import EncoderConfig

        config = EncoderConfig.from_json(read_json(self.weights[case.shape] / "config.json"))
        return asdict(case) | {"weights": weights_of(config), "rows_a_step": self._batch(case)}

    def _batch(self, case: Case) -> int:
        """The rows of a step: as many as hold the case's real tokens on average, and a tenth more."""
        if not case.tokens:
            return case.batch
        from yourbert.tokens.packing import open_tokens

        names = sorted(p.name for p in self.options.tokens.iterdir()) if case.task == "all" else [case.task]
        splits = [open_tokens(self.options.tokens / name).splits["train"] for name in names]
        mean = sum(int(s.offsets[-1]) for s in splits) / sum(map(len, splits))
        return -(-int(1.1 * case.tokens) // int(mean))

    def _job(self, number: int, case: Case) -> Job:
        task = self.params.tasks.get(case.task)
        training = self.params.training(case.task) if task else self.params.pretraining()
        batch = self.facts["cases"][case.name]["rows_a_step"]
        changes = {"batch_size": batch} | ({"epochs": case.epochs} if case.kind == "whole" else {})
        data = _generated(self.options.scratch) if case.kind == "tokenize" else {}
        return Job(
            kind=case.kind,
            task=case.task,
            weights=str(self.weights[case.shape]),
            tokens=str(self.options.tokens),
            corpus=str(self.options.corpus),
            scratch=str(self.options.scratch),
            params=str(self.options.params),
            rows=str(self.options.scratch / f"rows-{TOKENIZED_ROWS}"),
            training=training.model_copy(update=changes).model_dump(),
            data=data or (task.data.model_dump() if task else {}),
            batch=batch,
            warmup=case.warmup,
            steps=case.steps,
            seed=SEED + number,
            device=self.device,
            bf16=self.bf16,
            threads=self.options.threads,
        )


def order(cases: Sequence[Case]) -> list[tuple[int, Case]]:
    """Every round of every case as (number, case): all first rounds, some more where there is a goal, then the rest."""
    wanted = {name for goal in goals.GOALS for name in goal.cases}

    def turn(step: tuple[int, Case]) -> tuple[int, int]:
        number, case = step
        return (0 if number == 0 else 1 if case.name in wanted and number < SURE_ROUNDS else 2, number)

    return sorted(((number, case) for case in cases for number in range(case.rounds)), key=turn)


def _computes_bf16(device: Device) -> bool:
    import torch

    from yourbert.runtime.machine import computes_bf16

    if device == "cuda" and not torch.cuda.is_available():
        fail("P17", "this machine shows no GPU", where="benchmarks", fix="run the suite `cpu`")
    return computes_bf16(torch.device(device))


def _generated(scratch: Path) -> dict[str, Any]:
    """The facts of the generated pairs, whose files are written the first time."""
    from benchmarks.tokenize_rows import DEV_ROWS, generate, pairs

    folder = scratch / f"rows-{TOKENIZED_ROWS}"
    if not (folder / "dev.csv").exists():
        folder.mkdir(parents=True, exist_ok=True)
        generate(folder / "train.csv", TOKENIZED_ROWS, seed=1)
        generate(folder / "dev.csv", DEV_ROWS, seed=2)
    return pairs().model_dump()


def _shown(block: dict[str, Any]) -> str:
    seconds = block["seconds"]
    parts = [f"{1000 * seconds / block['steps']:.1f} ms a step"] if block["tokens"] and block["flops"] else []
    parts += [f"{block[name] / seconds:.0f} {name}/s" for name in ("tokens", "rows") if block[name] and seconds]
    parts += [f"{seconds:.1f} s"] if not parts else []
    parts += [f"{name} {value:.3g}" for name, value in block["values"].items()]
    return ", ".join([*parts, *([block["note"]] if block["note"] else [])])
