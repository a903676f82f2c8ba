"""Several processes as one trainer: a step's rows are dealt to the ranks, and their gradients add up.

A rank is a process with threads or a GPU of its own, started by torchrun or by `yourbert/runtime/launch.py`. Every rank
divides its losses by the labels of the whole step, so the sum over the ranks is the loss that one process would have
computed. Gradients travel in buckets while backward still works on earlier layers (Li et al. 2020, "PyTorch
Distributed").

PyTorch's own DistributedDataParallel is not used: it averages where a sum is wanted; it wraps one `forward`, while a
step here calls the model once per task, or heads alone over a frozen encoder; and to leave the heads of absent tasks
without a gradient, so that the optimizer passes them over, it searches the graph in every step. Here the ranks agree
once per combination of tasks on which parameters take part.
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

# How long a rank waits for the others, so that all have ended two minutes after one hung. The longest that one works
# alone is the saving of the resume state.
COLLECTIVE_TIMEOUT_S = 100.0
# After a collective failed: how long the others have to show that it was not they who stopped.
SECONDS_OF_ROLL_CALL = 3.0
BUCKET_BYTES = 8 << 20
AGAIN = "read the last output of that rank, and run the same command again: it resumes from the last saved step"


def launched() -> bool:
    """Whether torchrun, or `yourbert/runtime/launch.py`, started this process as one of several ranks."""
    return "WORLD_SIZE" in os.environ


def here() -> Ranks:
    """This process's place among the ranks, in the variables that torchrun sets. Raises UserError (P17)."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return ALONE
    try:
        rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        return Ranks(rank, world, int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"]))
    except (KeyError, ValueError):
        what = "WORLD_SIZE is set, but not all of RANK, LOCAL_RANK and LOCAL_WORLD_SIZE are, to numbers"
        fail("P17", what, where="environment", fix="start the ranks with torchrun, or unset WORLD_SIZE")


@dataclass(frozen=True)
class Ranks:
    """The ranks that train one model, seen from one of them. A single process is a world of one, at no cost."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1
    seconds: float = COLLECTIVE_TIMEOUT_S
    store: Store | None = field(default=None, compare=False, repr=False)

    @property
    def leads(self) -> bool:
        """Whether this rank is the one that writes files and shows progress."""
        return self.rank == 0

    @property
    def name(self) -> tuple[str | int, ...]:
        """What to add to the purpose of a draw that must differ between ranks; nothing for the first."""
        return ("rank", self.rank) if self.rank else ()

    def connect(self, device: torch.device) -> Ranks:
        """Connects the ranks. Raises UserError (X01) when one of them does not come, P17 without an address."""
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
        # Numbers that live on the host go through gloo, also where gradients go through nccl.
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
        """Leaves the group, after the last thing that the ranks do together."""
        if self.store is not None:
            dist.destroy_process_group()

    def sum(self, numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The sum of each rank's array, the same bytes on all of them; written to `numbers`."""
        if self.world > 1:
            with self.collective():
                dist.all_reduce(torch.from_numpy(numbers))
        return numbers

    def agree(self, what: str, number: int) -> None:
        """Raises UserError (X02) on every rank when `number` is not the same on all."""
        if self.world > 1:
            ends = torch.tensor([number, -number])
            with self.collective():
                dist.all_reduce(ends, dist.ReduceOp.MAX)
            if ends.sum() != 0:
                fail("X02", f"the ranks disagree about {what}", fix="let all of them see the same project folder")

    @contextmanager
    def collective(self) -> Iterator[None]:
        """Around a collective: the failure of one becomes a line that names the ranks that are gone."""
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
            what = f"the ranks lost touch with each other ({str(error).splitlines()[0]})"
        fail("X01", what, where=f"rank {self.rank}", fix=AGAIN)

    def _missing_ranks(self) -> list[int]:
        """Who does not sign within a few seconds; every rank comes here when one is gone."""
        others = [rank for rank in range(self.world) if rank != self.rank]
        end = time.monotonic() + SECONDS_OF_ROLL_CALL
        if self.store is None:
            return [0] if self.rank else others  # rank 0 holds it, until all have come
        try:
            self.store.set(f"here/{self.rank}", "")
            while (absent := [r for r in others if not self.store.check([f"here/{r}"])]) and time.monotonic() < end:
                time.sleep(0.1)
        except RuntimeError:
            return [0]  # the store itself is gone, and rank 0 or its launcher held it
        return absent


ALONE = Ranks()


@dataclass(eq=False)
class Bucket:
    """Parameters whose gradients travel together; `late` of them get theirs in the last backward of the step."""

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

    A step may have several parts, one for each of its tasks. Once the last part's backward has made a gradient final,
    its bucket is sent, buckets in a fixed order, while backward goes on. Which parameters take part, and which of them
    get their gradient in the last part, the ranks agree on at the first step with these tasks.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], ranks: Ranks) -> None:
        self.ranks = ranks
        # Backward finishes them near this order.
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
        """Backward of one part of a step, on every rank in the same order; `last` when no other part follows."""
        if self.ranks.world > 1:
            self._tasks += (task,)
            self._last = last
            if last:
                self._open(self._plans.get(self._tasks, []))
        loss.backward()  # type: ignore[no-untyped-call]

    def finish(self, losses: Sequence[Tensor]) -> list[Tensor]:
        """Waits until the gradients of the step are sums over all ranks, and returns the parts' losses, summed too."""
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
        """The buckets of this step's tasks: of what has a gradient on any rank, near `BUCKET_BYTES` each."""
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
