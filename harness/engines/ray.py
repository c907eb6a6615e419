"""The engine ``ray``: tasks of Ray Core, on a cluster that is there or on one of this machine's own."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from types import ModuleType
from typing import Any, ClassVar

from harness.errors import HarnessError, UsageError
from harness.work import Ended, Need, Stop, Unit

_LOOK = 0.1  # seconds between looks at tasks
_ANSWER = 10.0  # seconds that a cluster has to answer
_OBJECTS = 100 * 2**20  # bytes for Ray's object store; units are small, results lie in run folders
_HINT = (
    "; its token is looked for in RAY_AUTH_TOKEN and ~/.ray/auth_token (RAY_AUTH_MODE=disabled: it has none)"
)
_REASON = 160  # characters of what Ray says, before the hint
_TOKEN = Path("~/.ray/auth_token")  # where Ray itself looks


@dataclass(frozen=True)
class Ray:
    """``address`` of a cluster, else that of RAY_ADDRESS, else one is started here and ended afterwards.

    ``workers`` at most at once, by default as many as there is room for: one for each GPU, or one for
    every ``--threads`` CPUs.
    """

    summary: ClassVar[str] = "tasks on a Ray cluster: ray[address=HOST:PORT], or one started on this machine"
    needs: ClassVar[tuple[str, ...]] = ("ray",)
    elsewhere: ClassVar[bool] = True

    address: str | None = None
    workers: int | None = None
    retries: int = 2

    @contextmanager
    def open(self, need: Need) -> Iterator[RayWorkers]:
        """Connects or starts; a cluster that was there, or that the caller is connected to, stays."""
        if (self.workers is not None and self.workers < 1) or self.retries < 0:
            raise UsageError("ray: workers are 1 or more, retries 0 or more")
        address = self.address or os.environ.get("RAY_ADDRESS") or "local"
        _set_variables(own=address == "local")
        import ray

        connected = ray.is_initialized()
        if not connected:
            self._connect(ray, address, need)
        try:
            workers = self._workers(ray, need)
            try:
                with _silent(ray):
                    yield workers
            finally:
                workers.cancel()
        finally:
            if not connected:
                ray.shutdown()

    def _connect(self, ray: ModuleType, address: str, need: Need) -> None:
        from harness.runtime import default_threads  # torch

        own, cpus = address == "local", max(default_threads(), (self.workers or 1) * need.threads)
        room = {"num_cpus": cpus, "object_store_memory": _OBJECTS, "include_dashboard": False}
        handler = signal.getsignal(signal.SIGTERM)
        try:
            _knock(address)
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level="CRITICAL",
                **(room if own else {}),
            )
        except (ConnectionError, OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            where = "a Ray cluster can't be started here" if own else f"no Ray cluster answers at '{address}'"
            said = (str(error).splitlines() or [type(error).__name__])[0]
            reason = shorten(said, _REASON, placeholder=" ...")
            hint = "" if own else _HINT
            raise HarnessError(f"{where}: {reason}{hint}") from error
        finally:
            with suppress(ValueError):  # not in the main thread
                signal.signal(signal.SIGTERM, handler)  # Ray puts its own in its place

    def _workers(self, ray: ModuleType, need: Need) -> RayWorkers:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        on_gpus = need.device != "cpu" and any(node.get("GPU", 0) >= 1 for node in nodes)
        room = [int(n.get("GPU", 0) if on_gpus else n.get("CPU", 0) // need.threads) for n in nodes]
        count = min(sum(room), self.workers or sum(room))
        if not count:
            raise UsageError(f"no node of the Ray cluster has {need.threads} CPUs: fewer --threads")
        # A process of its own for every unit on a GPU, as Ray has it by default, which gives its memory
        # back; without one, processes stay, and torch is imported once.
        kept = {} if on_gpus else {"max_calls": 0}
        task = ray.remote(
            num_cpus=1 if on_gpus else need.threads, num_gpus=int(on_gpus), max_retries=self.retries, **kept
        )(_call)
        return RayWorkers(count, min(max(room), count), self.workers, ray, task)


@dataclass
class RayWorkers:
    """Tasks that wait or run, by their references. Ray itself runs lost ones again.

    Without ``at_most`` Ray gets all at once, so that a node that joins has something to do.
    """

    count: int
    beside: int
    at_most: int | None
    ray: ModuleType
    task: Any
    _running: dict[Any, Unit] = field(default_factory=dict)

    def run(self, units: Sequence[Unit]) -> Iterator[Ended | None]:
        """See :class:`~harness.work.Workers`."""
        waiting = list(reversed(units))
        while waiting or self._running:
            while waiting and len(self._running) < (self.at_most or len(units)):
                unit = waiting.pop()
                self._running[self.task.remote(unit)] = unit
            ready = self._ready()
            for reference in ready:
                yield self._ended(reference, self._running.pop(reference))
            if not ready:
                time.sleep(
                    _LOOK
                )  # here and not in ray.wait, which makes a SystemError of a signal's exception
                yield None

    def _ready(self) -> list[Any]:
        running = list(self._running)
        try:
            ready, _ = self.ray.wait(running, num_returns=len(running), timeout=0)
        except SystemError as error:
            raise error.__cause__ or error from None
        return list(ready)

    def cancel(self) -> None:
        """Ends what still runs."""
        for reference in self._running:
            with suppress(self.ray.exceptions.RayError, ValueError):
                self.ray.cancel(reference, force=True)

    def _ended(self, reference: Any, unit: Unit) -> Ended:
        try:
            return Ended(unit, stop=self.ray.get(reference))
        except self.ray.exceptions.RayTaskError as error:
            return Ended(unit, stop=Stop(f"a Ray worker can't run the unit: {_last_line(error)}", 1))
        except self.ray.exceptions.LocalRayletDiedError as error:
            raise HarnessError(
                "Ray's own process on this machine has died; the same command goes on where it stopped"
            ) from error
        except self.ray.exceptions.RayError as error:
            return Ended(unit, lost=f"its Ray worker was lost: {type(error).__name__}")


def _call(unit: Unit) -> Stop | None:
    return unit()


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


@contextmanager
def _silent(ray: ModuleType) -> Iterator[None]:
    """Ray prints a paragraph for every lost worker on standard output, where results belong, and has no
    switch for that; what is lost for good is said by whoever runs the units.
    """
    internal, name = getattr(getattr(ray, "_private", None), "worker", None), "print_to_stdstream"
    before = getattr(internal, name, None)
    if before is None:  # another version of Ray has it elsewhere: it prints
        yield
        return
    setattr(internal, name, lambda *given, **options: None)
    try:
        yield
    finally:
        setattr(internal, name, before)


def _knock(address: str) -> None:
    """Raises OSError where nobody listens at HOST:PORT; Ray would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER).close()


def _set_variables(*, own: bool) -> None:
    """What Ray reads when it is imported, and whatever it starts from this process's environment: no usage
    statistics, and nobody without the token is let in. They stay, since it reads them once.

    A cluster of our own has a token of its own, where the user has none.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if "ray" in sys.modules:
        return
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    known = "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ
    if own and not known and not _TOKEN.expanduser().exists():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
