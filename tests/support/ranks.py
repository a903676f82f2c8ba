"""What two ranks do in test_distributed: `OMP_NUM_THREADS=1 python -m tests.support.ranks <folder>`.

Importing takes longer than all the training, so one process imports and every rank is a fork of it. `run` and the other
acts work in whatever process calls them; the tests call them for what one rank alone makes of the same.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.support import tiny
from yourbert.config.schema import Runtime
from yourbert.core.errors import UserError, exit_cleanly
from yourbert.core.storage import write_json, write_tensors
from yourbert.finetuning.learner import TaskLearner
from yourbert.inference.predict import predict
from yourbert.runtime.distributed import Gradients, here
from yourbert.runtime.machine import Machine, prepare
from yourbert.training.checkpoint import Resume
from yourbert.training.history import TrainingHistory
from yourbert.training.loop import StepLoss

# How long a rank waits for one that is gone.
COLLECTIVE_TIMEOUT_S = 5.0
STILL: dict[str, Any] = {"dropout": 0.0, "head_dropout": 0.0, "epochs": 2}
# What is trained -> changes to the settings, and the mixture; a mixture's second task is a similarity.
RUNS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "one": (STILL, {}),
    "balanced": (STILL | {"class_weights": "balanced", "pooling": "mean"}, {}),
    "joint": (STILL, {"sampling": "joint", "loss_weights": {"sim": 2.0}}),
    "proportional": (STILL, {"sampling": "proportional"}),
    "smaller than the world": (STILL | {"batch_size": 1, "epochs": 1}, {"sampling": "joint"}),
    "uneven": (STILL | {"batch_size": 5}, {}),
    # One epoch: over a random encoder all cosines are alike, and rounding would choose which epoch is the best.
    "head": (STILL | {"freeze_encoder": True, "lr": 1e-2, "epochs": 1}, {"sampling": "joint"}),
    "dropout": ({"epochs": 4}, {"sampling": "joint"}),
}


def learner(name: str, machine: Machine) -> TaskLearner:
    changes, mixture = RUNS[name]
    tasks = [tiny.tokens(tiny.task())]
    if mixture:
        tasks.append(tiny.tokens(tiny.task("sim", "similarity", encoding="bi"), 64))
    made = tiny.learner(tasks, tiny.training(**changes), machine=machine, **mixture)
    if not made.settings.freeze_encoder:
        tiny.restrict(made)
    return made


def run(name: str, machine: Machine, folder: Path) -> tuple[TrainingHistory, dict[str, Tensor]]:
    """Trains one of `RUNS`, or "mlm"; what came out and the weights."""
    still = tiny.training(**STILL)
    made = tiny.mlm_learner(still, 90, 300, machine) if name == "mlm" else learner(name, machine)
    with Resume(folder / name, leads=machine.ranks.leads) as resume:
        settings = still if name == "mlm" else made.settings
        outcome = tiny.trained(made, settings, resume, ranks=machine.ranks)
    return outcome, weights(made.model)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


class CutOff(Exception):
    pass


class Interrupted(TaskLearner):
    """A learner to which something happens just before step `at`."""

    at = 10**9
    happens: Callable[[], None]

    def losses(self, epoch: int, step: int, micro_batches: int = 1) -> Iterator[StepLoss]:
        if step == self.at:
            self.happens()
        yield from super().losses(epoch, step, micro_batches)


def interrupted(made: TaskLearner, at: int, happens: Callable[[], None]) -> TaskLearner:
    made.__class__, made.at, made.happens = Interrupted, at, happens  # type: ignore[attr-defined]
    return made


def cut_off() -> None:
    raise CutOff


def resumed(machine: Machine, folder: Path) -> tuple[TrainingHistory, dict[str, Tensor]]:
    """The run with dropout, cut off in its third epoch and taken up again."""
    for happens in (cut_off, None):
        made = learner("dropout", machine)
        interrupted(made, 29, happens) if happens else None
        try:
            with Resume(folder / "resumed", 0.0, machine.ranks.leads) as resume:
                outcome = tiny.trained(made, made.settings, resume, ranks=machine.ranks)
        except CutOff:
            assert (folder / "resumed" / "state.safetensors").is_file()
    return outcome, weights(made.model)


class NanOnOneRank(TaskLearner):
    def losses(self, epoch: int, step: int, micro_batches: int = 1) -> Iterator[StepLoss]:
        for part in super().losses(epoch, step, micro_batches):
            yield replace(part, loss=part.loss * float("nan")) if step == 2 and self.machine.ranks.rank == 1 else part


def nan_on_one_rank(machine: Machine, folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Weights before the step that is broken on rank 1, and after."""
    made, before = learner("one", machine), {}
    interrupted(made, 2, lambda: before.update(weights(made.model)))
    made.__class__ = type("Broken", (NanOnOneRank, Interrupted), {})
    try:
        with Resume(folder / "nan", leads=machine.ranks.leads) as resume:
            tiny.trained(made, made.settings, resume, ranks=machine.ranks)
    except UserError as error:
        said = str(error)
    after = weights(made.model)
    return {"said": said}, {**after, **{f"before/{name}": tensor for name, tensor in before.items()}}


def gradients(machine: Machine, folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The gradients of some steps without updates: the ranks agree in the first, send during backward in the others.

    An optimizer that divides by the size of the gradient hides a wrong factor in it, so these are looked at themselves.
    """
    found: dict[str, Tensor] = {}
    for name in ("joint", "proportional", "balanced"):
        made = learner(name, machine)
        parameters = dict(made.model.named_parameters())
        summed = Gradients(parameters.values(), machine.ranks)
        for step in range(6):
            parts = []
            for part in made.losses(0, step):
                summed.backward(part.loss, part.task, part.last)
                parts.append(part)
            losses = summed.finish([part.loss for part in parts])
            found |= {f"{name} {step} loss {part.task}": loss for part, loss in zip(parts, losses, strict=True)}
            found |= {f"{name} {step} {key}": p.grad for key, p in parameters.items() if p.grad is not None}
            made.model.zero_grad(set_to_none=True)
        summed.close()
    return {}, found


def disagreeing(machine: Machine, folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """One rank sees another project folder than the first, in which nothing was saved."""
    if machine.ranks.leads:
        write_json(folder / "seen" / "state.safetensors", {})
    try:
        with Resume(folder / "seen" if machine.ranks.leads else folder / "unseen", leads=machine.ranks.leads) as resume:
            made = learner("one", machine)
            tiny.trained(made, made.settings, resume, ranks=machine.ranks)
    except UserError as error:
        said = str(error)
    return {"said": said}, {}


def predicted(machine: Machine, folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The answers for splits of one batch and of several."""
    made = learner("joint", machine)
    made.model.eval()
    answers = {}
    for rows in (3, 900):
        for task in made.tokens.values():
            answers[f"{task.task.name} {rows}"] = predict(
                made.model, task.task.name, tiny.split(task.task, rows, 5), machine
            )
    return {}, {name: torch.from_numpy(np.asarray(a)) for name, a in answers.items()}


ACTS = {"gradients": gradients, "nan": nan_on_one_rank, "disagreeing": disagreeing, "predicted": predicted}
WELL = [*RUNS, "mlm", "resumed", *ACTS]


def faulty(machine: Machine, folder: Path, happens: Callable[[], None], rank: int = 1) -> None:
    """A rank comes to grief at its 13th step."""
    made = learner("joint", machine)
    if machine.ranks.rank == rank:
        interrupted(made, 13, happens)
    with Resume(folder / "faulty", 0.0, machine.ranks.leads) as resume:
        tiny.trained(made, made.settings, resume, ranks=machine.ranks)


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def disk_fills_up() -> None:
    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    os.fsync = full


def keep(folder: Path, act: str, rank: int, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    write_json(folder / f"{act} {rank}.json", facts)
    write_tensors(folder / f"{act} {rank}.safetensors", tensors)


def play(folder: Path, acts: Sequence[str]) -> None:
    """The acts of one rank, in the environment that torchrun would give it."""
    ranks = here() if folder.name == "well" else replace(here(), seconds=COLLECTIVE_TIMEOUT_S)
    machine = prepare(Runtime(device="cpu", precision="fp32", num_threads=1, deterministic=False), ranks)
    rank = machine.ranks.rank
    for act in acts:
        if act in ("killed", "stopped"):
            faulty(machine, folder, partial(send, signal.SIGKILL if act == "killed" else signal.SIGSTOP))
        elif act == "full":
            faulty(machine, folder, disk_fills_up, rank=0)
        elif act in ACTS:
            keep(folder, act, rank, *ACTS[act](machine, folder))
        else:
            outcome, ended = resumed(machine, folder) if act == "resumed" else run(act, machine, folder)
            told = {key: value for key, value in vars(outcome).items() if key not in ("cost", "spikes")}
            keep(folder, act, rank, told, ended)
    machine.ranks.close()


def started(folder: Path, acts: Sequence[str], ranks: int) -> list[int]:
    """Forks the first `ranks` of two ranks; their process numbers. What one says on stderr stands in a file."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder.mkdir()
    processes = []
    for rank in range(ranks):
        process = os.fork()
        if process == 0:
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
            os.environ |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
            os.dup2(os.open(folder / f"said {rank}", os.O_CREAT | os.O_WRONLY), 2)
            exit_cleanly(lambda: play(folder, acts))
        processes.append(process)
    return processes


def main(folder: Path) -> None:
    """The exit codes of each play; what ends in waiting goes on at once."""
    codes = {"well": ended(started(folder / "well", WELL, 2))}
    gone = {play: started(folder / play, [play], 2) for play in ("killed", "stopped", "full")}
    gone["never came"] = started(folder / "never came", ["one"], 1)
    write_json(folder / "codes.json", codes | {play: ended(processes) for play, processes in gone.items()})


def ended(processes: Sequence[int]) -> list[int]:
    """Waits for the first rank, then for the second, which may hang where the first did not end well."""
    codes: list[int] = []
    for process in processes:
        if any(codes):
            os.kill(process, signal.SIGKILL)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
    return codes


if __name__ == "__main__":
    main(Path(sys.argv[1]))
