"""Processes that train one cell together, each a share of every batch (data-parallel, ``torchrun``).

A share of a batch is a piece of it on another process (``micro_batches.py``): its gradients are added
to the others'. All processes hold the same network and take the same steps, bit for bit, which is checked
after each epoch. What one of them raises, unless all know of it, ends all of them.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from harness.errors import HarnessError, UsageError
from harness.stopping import Ended

_BUCKET = 2**25  # bytes of gradients that are sent at once
# Whoever waits for a process that ends is told at once; a long wait is for data, or for another's lock.
_PATIENCE = timedelta(days=7)
_FAREWELL = 3.0  # seconds that rank 0 waits for the others to have heard of a failure
_FAILURE, _HEARD = "harness/failure", "harness/heard"
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Parted(HarnessError):
    """Another process of the group failed or is gone."""


@dataclass(frozen=True)
class World:
    """This process, of ``size``; the one of ``rank`` 0 writes, prints and tests.

    ``local_size`` of them share this machine.
    """

    rank: int = 0
    size: int = 1
    local_size: int = 1

    @property
    def alone(self) -> bool:
        return self.size == 1

    def place(self, device: torch.device) -> torch.device:
        """The device of this process: each has a GPU of its own."""
        if self.alone or device.type != "cuda":
            return device
        local, count = int(os.environ.get("LOCAL_RANK", self.rank)), torch.cuda.device_count()
        if device.index is not None or local >= count:
            raise UsageError(
                f"{self.local_size} processes of one machine need a GPU each (there are {count}): "
                "--device cuda, as many processes as GPUs"
            )
        torch.cuda.set_device(local)
        return torch.device("cuda", local)

    def share(self, pieces: Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
        """This process's pieces of a batch, which lie side by side; none where there are too few."""
        first, stop = (len(pieces) * rank // self.size for rank in (self.rank, self.rank + 1))
        return pieces[first:stop]

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether it is so in any process."""
        return flag if self.alone else bool(self._most([flag], device)[0])

    def agreed(self, error: Exception | None, device: torch.device) -> Exception | None:
        """``error``, or the news that another process has met one."""
        if not self.any(error is not None, device):
            return None
        return error or Parted("another process of the group could not prepare it")

    def add_gradients(self, parameters: Sequence[torch.Tensor]) -> None:
        """Replaces each gradient by the sum over all processes; what has none anywhere keeps none."""
        if self.alone or not parameters:
            return
        there = self._most([p.grad is not None for p in parameters], parameters[0].device)
        live = [p for p, anywhere in zip(parameters, there, strict=True) if anywhere]
        for parameter in live:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.add([p.grad for p in live if p.grad is not None])

    def add(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replaces each tensor by its sum over all processes; they are of one dtype."""
        if self.alone:
            return
        for bucket in _buckets(tensors):
            whole = len(bucket) == 1 and bucket[0].is_contiguous()
            flat = bucket[0] if whole else torch.cat([tensor.reshape(-1) for tensor in bucket])
            with _named():
                distributed.all_reduce(flat)
            if not whole:
                for tensor, part in zip(bucket, flat.split([t.numel() for t in bucket]), strict=True):
                    tensor.copy_(part.view(tensor.shape))

    def gathered(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """The tensors of all processes, by rank; they have one shape."""
        if self.alone:
            return [tensor]
        found = [torch.empty_like(tensor) for _ in range(self.size)]
        with _named():
            distributed.all_gather(found, tensor)
        return found

    def check_same(self, tensors: Mapping[str, torch.Tensor], when: str) -> None:
        """Raises Parted, naming a tensor, unless all processes hold the same bits."""
        if self.alone:
            return
        sums = [t.detach().view(_BITS[t.element_size()]).sum(dtype=torch.int64) for t in tensors.values()]
        first, *others = self.gathered(torch.stack(sums))
        for other in others:
            for name, same in zip(tensors, (other == first).tolist(), strict=True):
                if not same:
                    raise Parted(f"{when} '{name}' isn't the same in all processes: are the machines alike?")

    def tell(self, message: Any) -> None:
        """From rank 0 to all others, which ask with :meth:`told`."""
        if not self.alone:
            with _named():
                distributed.broadcast_object_list([message], src=0)

    def told(self) -> Any:
        """What rank 0 tells next."""
        found = [None]
        with _named():
            distributed.broadcast_object_list(found, src=0)
        return found[0]

    def _most(self, flags: Sequence[bool], device: torch.device) -> list[int]:
        tensor = torch.tensor([int(flag) for flag in flags], dtype=torch.int32, device=device)
        with _named():
            distributed.all_reduce(tensor, distributed.ReduceOp.MAX)
        found: list[int] = tensor.tolist()
        return found


ALONE = World()


@contextlib.contextmanager
def joined(device: str) -> Iterator[World]:
    """The group that ``torchrun`` (its environment variables) says this process belongs to, or none.

    Where a process fails, one line is said, by the first that does; the others end silently with its
    exit status.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) < 2 or "RANK" not in os.environ:
        yield ALONE
        return
    store, rank, size = next(distributed.rendezvous("env://", timeout=_PATIENCE))
    gpus = device != "cpu" and torch.cuda.is_available()
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if gpus else "gloo", store=store, rank=rank, world_size=size, timeout=_PATIENCE
    )
    try:
        yield World(rank, size, int(os.environ.get("LOCAL_WORLD_SIZE", size)))
    except BaseException as error:
        status = _published(store, error)
        with contextlib.suppress(Exception):
            distributed.destroy_process_group()  # the others, which wait, are told by that
        if rank == 0:
            _wait_until_heard(store, size)
        if status is None:
            raise
        raise Ended(status) from None
    distributed.destroy_process_group()


def _published(store: distributed.Store, error: BaseException) -> int | None:
    """The exit status of whoever failed first; None where this process did, or nobody can tell."""
    mine = f"{os.environ['RANK']} {_status(error)}"
    try:
        first = store.compare_set(_FAILURE, "", mine).decode()
        store.add(_HEARD, 1)
    except RuntimeError:  # the process that kept the store is gone
        return None
    return None if first == mine else int(first.split()[1])


def _wait_until_heard(store: distributed.Store, size: int) -> None:
    """Rank 0 may keep the store, in which the others look for whose failure it is."""
    ends = time.monotonic() + _FAREWELL
    with contextlib.suppress(RuntimeError):
        while store.add(_HEARD, 0) < size and time.monotonic() < ends:
            time.sleep(0.01)


def _status(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return 130
    return int(getattr(error, "exit_code", 1)) if isinstance(error, Exception) else 143


@contextlib.contextmanager
def _named() -> Iterator[None]:
    """Turns an error of the connection into one line."""
    try:
        yield
    except RuntimeError as error:
        reason = re.sub(r"^\[.*?\] ", "", str(error)).split(". ")[0].splitlines()[0]
        raise Parted(f"another process of the group has ended: {reason}") from error


def _buckets(tensors: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    bucket: list[torch.Tensor] = []
    for tensor in tensors:
        if bucket and sum(t.nbytes for t in [*bucket, tensor]) > _BUCKET:
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket
