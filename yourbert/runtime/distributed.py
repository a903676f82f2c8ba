"""Data-parallel training: the rows of a step are sharded over the ranks, and their gradients are summed.

A rank is a process with its own threads or GPU, started by torchrun or by `yourbert/runtime/launch.py`. Every rank
divides its losses by the number of labels in the whole step, so the sum over ranks equals the loss of a single process.
Gradients are reduced in buckets while backward computes earlier layers (Li et al. 2020, "PyTorch Distributed").

PyTorch's DistributedDataParallel does not fit. It averages gradients, where a sum is needed. It wraps one `forward`,
while a step here calls the model once per task, or only the heads over a frozen encoder. Heads of absent tasks must
stay without a gradient, so that the optimizer skips them, and for that it would traverse the graph in every step. Here
the ranks agree once per combination of tasks on the parameters that have gradients.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, NoReturn

import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import PrefixStore, Store, rendezvous  # type: ignore[attr-defined]

from yourbert.core.errors import fail

# How long a rank waits for the others: all have exited two minutes after one hangs. Saving the resume state is the
# longest work that one rank does alone.
COLLECTIVE_TIMEOUT_S = 100.0
# After a failed collective, how long the other ranks have to report that they are alive.
SECONDS_OF_ROLL_CALL = 3.0
BUCKET_BYTES = 8 << 20
AGAIN = "read the last output of that rank, and run the same command again: it resumes from the last saved step"


def launched() -> bool:
    """Whether torchrun, or `yourbert/runtime/launch.py`, started this process as one of several ranks."""
    return "WORLD_SIZE" in os.environ


def here() -> Ranks:
    """The rank of this process, from the environment variables of torchrun. Raises UserError (P17)."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return ALONE
    try:
        rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        return Ranks(rank, world, int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"]))
    except (KeyError, ValueError):
        what = "WORLD_SIZE is set, but RANK, LOCAL_RANK or LOCAL_WORLD_SIZE is missing or not a number"
        fail("P17", what, where="environment", fix="start the ranks with torchrun, or unset WORLD_SIZE")


@dataclass(frozen=True)
class Ranks:
    """The ranks that train one model, seen from one of them. A single process is a world of one, without overhead."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1
    seconds: float = COLLECTIVE_TIMEOUT_S
    store: Store | None = field(default=None, compare=False, repr=False)

    @property
    def leads(self) -> bool:
        """Whether this rank writes files and shows progress."""
        return self.rank == 0

    @property
    def name(self) -> tuple[str | int, ...]:
        """Added to the purpose of a draw that must differ between ranks; empty for rank 0."""
        return ("rank", self.rank) if self.rank else ()

    def connect(self, device: torch.device) -> Ranks:
        """Connects the ranks. Raises UserError: X01 if a rank does not connect, P17 without an address."""
        if self.world == 1:
            return self
        wait = timedelta(seconds=self.seconds)
        try:
            store, _, _ = next(iter(rendezvous("env://", self.rank, self.world, timeout=wait)))
        except ValueError as error:
            fail("P17", str(error), where="environment", fix="start the ranks with torchrun, or unset WORLD_SIZE")
        except RuntimeError as error:
            self._raise_lost_rank(error)
        met = replace(self, store=store)
        # Tensors on the host are reduced by gloo, also where gradients are reduced by NCCL.
        backend, own = ("cpu:gloo,cuda:nccl", device) if device.type == "cuda" else ("gloo", None)
        with met.collective():
            dist.init_process_group(
                backend,
                store=PrefixStore("group", store),
                rank=self.rank,
                world_size=self.world,
                timeout=wait,
                device_id=own,
            )
        return met

    def close(self) -> None:
        """Leaves the process group, after the last collective."""
        if self.store is not None:
            dist.destroy_process_group()

    def sum(self, numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The sum of the arrays of all ranks, identical on all of them; written to `numbers`."""
        if self.world > 1:
            with self.collective():
                dist.all_reduce(torch.from_numpy(numbers))
        return numbers

    def agree(self, what: str, number: int) -> None:
        """Raises UserError (X02) on every rank unless `number` is the same on all."""
        if self.world > 1:
            ends = torch.tensor([number, -number])
            with self.collective():
                dist.all_reduce(ends, dist.ReduceOp.MAX)
            if ends.sum() != 0:
                fail("X02", f"the ranks disagree about {what}", fix="let all of them see the same project folder")

    @contextmanager
    def collective(self) -> Iterator[None]:
        """Turns the failure of a collective into a UserError (X01) that names the ranks that are gone."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self._raise_lost_rank(error)

    def _raise_lost_rank(self, error: Exception) -> NoReturn:
        absent = self._missing_ranks()
        named = f"rank {absent[0]}" if len(absent) == 1 else f"ranks {', '.join(map(str, absent))}"
        what = f"{named} stopped, or did not answer within {self.seconds:g} s"
        if not absent:
            what = f"the connection between the ranks failed ({str(error).splitlines()[0]})"
        fail("X01", what, where=f"rank {self.rank}", fix=AGAIN)

    def _missing_ranks(self) -> list[int]:
        """The ranks that do not report within a few seconds; every rank calls this when one is gone."""
        others = [rank for rank in range(self.world) if rank != self.rank]
        end = time.monotonic() + SECONDS_OF_ROLL_CALL
        if self.store is None:
            return [0] if self.rank else others  # rank 0 hosts the store, until all have connected
        try:
            self.store.set(f"here/{self.rank}", "")
            while (absent := [r for r in others if not self.store.check([f"here/{r}"])]) and time.monotonic() < end:
                time.sleep(0.1)
        except RuntimeError:
            return [0]  # the store is gone, which rank 0 or its launcher hosts
        return absent


ALONE = Ranks()


@dataclass(eq=False)
class Bucket:
    """Parameters whose gradients are reduced together; `late` of them are ready only in the step's last backward."""

    parameters: list[nn.Parameter]
    late: int
    missing: int = 0
    flat: Tensor | None = None
    work: dist.Work | None = None

    def send(self) -> None:
        """Starts the sum over the ranks. A rank without rows of a task adds zeros."""
        parts = [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in self.parameters]
        self.flat = parts[0] if len(parts) == 1 else torch.cat(parts)
        self.work = dist.all_reduce(self.flat, async_op=True)

    def receive(self) -> None:
        assert self.work is not None and self.flat is not None, "sent before"
        self.work.wait()
        sums = torch.split(self.flat, [p.numel() for p in self.parameters])
        for parameter, sum_ in zip(self.parameters, sums, strict=True):
            parameter.grad = sum_.view_as(parameter)
        self.flat = self.work = None


class Gradients:
    """Sums every gradient of a step over the ranks; with one rank it only calls backward.

    A step may have several parts, one per task. In the last part, a bucket is sent as soon as all its gradients are
    final, in a fixed order of buckets, while backward continues. At the first step with a combination of tasks, the
    ranks agree on the parameters that have gradients, and on those whose gradients are final only in the last part.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], ranks: Ranks) -> None:
        self.ranks = ranks
        # About the order in which backward computes their gradients.
        self._parameters = list(parameters)[::-1]
        self._plans: dict[tuple[str, ...], list[Bucket]] = {}
        self._tasks: tuple[str, ...] = ()
        self._last = False
        self._arrived: set[nn.Parameter] = set()
        self._bucket_of: dict[nn.Parameter, Bucket] = {}
        self._queue: deque[Bucket] = deque()
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []
        if ranks.world > 1:
            for parameter in self._parameters:
                hook = parameter.register_post_accumulate_grad_hook(self._arrive)  # type: ignore[no-untyped-call]
                self._hooks.append(hook)
            with ranks.collective():
                for parameter in self._parameters:
                    dist.broadcast(parameter.detach(), 0)

    def backward(self, loss: Tensor, task: str, last: bool) -> None:
        """Backward of one part of a step, in the same order on every rank. last: whether it is the step's last part."""
        if self.ranks.world > 1:
            self._tasks += (task,)
            self._last = last
            if last:
                self._open(self._plans.get(self._tasks, []))
        loss.backward()  # type: ignore[no-untyped-call]

    def finish(self, losses: Sequence[Tensor]) -> list[Tensor]:
        """Waits until the gradients are summed over all ranks; returns the losses of the parts, also summed."""
        if self.ranks.world == 1:
            return [loss.detach() for loss in losses]
        with self.ranks.collective():
            if self._tasks not in self._plans:
                self._plans[self._tasks] = self._plan()
                self._open(self._plans[self._tasks])
            while self._queue:
                self._queue.popleft().send()
            total = torch.stack([loss.detach() for loss in losses])
            dist.all_reduce(total)
            for bucket in self._plans[self._tasks]:
                bucket.receive()
        self._tasks, self._last = (), False
        self._arrived.clear()
        return list(total.unbind())

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def _open(self, plan: list[Bucket]) -> None:
        self._queue = deque(plan)
        self._bucket_of = {p: bucket for bucket in plan for p in bucket.parameters}
        for bucket in plan:
            bucket.missing = bucket.late
        self._send_what_is_ready()

    def _arrive(self, parameter: nn.Parameter) -> None:
        """Called by backward when it has added to a parameter's gradient."""
        if not self._last:
            return
        self._arrived.add(parameter)
        if bucket := self._bucket_of.get(parameter):
            assert bucket.missing > 0, "a gradient came after its bucket was sent"
            bucket.missing -= 1
            self._send_what_is_ready()

    def _send_what_is_ready(self) -> None:
        with self.ranks.collective():
            while self._queue and not self._queue[0].missing:
                self._queue.popleft().send()

    def _plan(self) -> list[Bucket]:
        """The buckets for this step's tasks: the parameters with a gradient on any rank, `BUCKET_BYTES` or so each."""
        facts = [[p.grad is not None for p in self._parameters], [p in self._arrived for p in self._parameters]]
        known = torch.tensor(facts, dtype=torch.int32)
        dist.all_reduce(known, dist.ReduceOp.MAX)
        buckets: list[Bucket] = []
        room = 0
        for parameter, used, late in zip(self._parameters, *known.tolist(), strict=True):
            if used:
                size = parameter.numel() * parameter.element_size()
                if size > room:
                    buckets.append(Bucket([], 0))
                    room = BUCKET_BYTES
                room -= size
                buckets[-1].parameters.append(parameter)
                buckets[-1].late += late
        return buckets
