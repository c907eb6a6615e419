"""The contract test of engines: one that keeps it passes, and typical faults are named."""

import contextlib
import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from harness.contracts import Ended
from harness.engines.local import Local
from harness.testing import check_engine
from harness.testing.grids import _require_same

FORK = multiprocessing.get_context("fork")  # what the tests have imported needn't be imported again
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def answer(unit, answers):
    answers.send(unit())


@dataclass(frozen=True)
class Forking:
    """A process for each try of a unit; subclasses have one fault each."""

    summary: ClassVar[str] = "a fork for each unit"
    needs: ClassVar[tuple[str, ...]] = ()
    elsewhere: ClassVar[bool] = False

    count: int = 1
    beside: int = 1
    tries: int = 3
    work: ClassVar[object] = staticmethod(answer)

    @contextlib.contextmanager
    def open(self, need):
        running = []
        object.__setattr__(self, "running", running)
        try:
            yield self
        finally:
            self.close()

    def close(self):
        for process in self.running:
            process.kill()
            process.join()

    def run(self, units) -> Iterator[Ended | None]:
        for unit in units:
            ended = None
            for _ in range(self.tries):
                answers, end = FORK.Pipe(duplex=False)
                process = FORK.Process(target=self.work, args=(unit, end))
                process.start()
                self.running.append(process)
                end.close()
                yield from self.wait(answers)
                try:
                    ended = Ended(unit, stop=answers.recv())
                    break
                except EOFError:
                    process.join()
                    ended = self.lost(unit)
            yield ended

    def wait(self, answers):
        while not answers.poll(0.02):
            yield None

    def lost(self, unit):
        return Ended(unit, lost="its process was killed")


def test_the_engine_of_the_guide_is_one_that_is_tried():
    """``tests/plugin_pkg`` has its own test, which ``test_installed.py`` runs."""
    root = Path(__file__).parents[2]
    guide = (root / "docs" / "plugins.md").read_text("utf-8")
    (shown,) = (b for b in re.findall(r"```python\n(.*?)```", guide, flags=re.S) if "class FreshProcess" in b)
    source = (root / "tests" / "plugin_pkg" / "src" / "fresh_process.py").read_text("utf-8")
    assert source.endswith(shown)


def test_an_engine_that_keeps_the_contract(tmp_path):
    check_engine(Forking(), tmp_path)
    assert list(tmp_path.glob("check-*")) == []


@pytest.mark.slow
@pytest.mark.parametrize("engine", [Local(workers=2), Local(workers=3, retries=1)])
def test_the_engine_of_this_machine(engine):
    check_engine(engine)


@pytest.mark.slow
def test_submitted_processes_of_this_machine():
    pytest.importorskip("submitit", reason="the extra slurm isn't installed")
    from harness.engines.slurm import Slurm

    check_engine(Slurm(cluster="local", jobs=2))


@pytest.mark.slow
def test_a_ray_cluster(ray):
    from harness.engines.ray import Ray

    check_engine(Ray(workers=2))


class Here(Forking):
    def run(self, units):
        for unit in units:
            yield None
            yield Ended(unit, stop=unit())


class InAThread(Forking):
    @staticmethod
    def work(unit, answers):
        thread = threading.Thread(target=answer, args=(unit, answers))
        thread.start()
        thread.join()


class Raising(Forking):
    def lost(self, unit):
        raise EOFError("the pipe is closed")


class Deaf(Forking):
    """Waits for ever for an answer that nobody sends any more."""

    def lost(self, unit):
        signal.pause()


class Dreaming(Deaf):
    """The same, but it lets the caller look."""

    def run(self, units):
        yield from super().run(units[:1])
        while True:
            yield None


class Silent(Forking):
    def wait(self, answers):
        answers.poll(None)
        yield from ()


class Forgetful(Forking):
    """Leaves out what was lost."""

    def run(self, units):
        yield from (e for e in super().run(units) if e is None or not e.lost)


class Deceived(Forking):
    """Drops what the call returned."""

    @staticmethod
    def work(unit, answers):
        unit()
        answers.send(None)


class Lazy(Forking):
    def run(self, units):
        yield None
        yield from map(Ended, units)


class Twice(Forking):
    def run(self, units):
        for ended in super().run(units):
            yield ended
            if ended:
                yield ended


class Once(Forking):
    """Works for the first call of run alone."""

    def run(self, units):
        if len(self.running) == 0:
            yield from super().run(units)


class Leaving(Forking):
    """Leaves its processes behind."""

    def close(self):
        left.extend(self.running)


class Picky(Forking):
    """Leaves units of several cells undone."""

    def run(self, units):
        for unit in units:
            yield from super().run([unit]) if len(unit.cells) == 1 else [Ended(unit)]


class Mute(Forking):
    summary = ""


class Untold(Forking):
    needs = "submitit"


left = []
FAULTS = {
    "here": (Here(), "the unit 'ends': it was called in the process that hands units out"),
    "in a thread": (InAThread(), "the unit 'ends': it was called in a thread"),
    "raises": (Raising(), r"run\(\) raised EOFError: the pipe is closed; a unit whose worker is lost"),
    "blocks": (Deaf(), "nothing came of it in 1 s"),
    "waits": (Dreaming(), "nothing came of it in 1 s"),
    "no turns": (Silent(), "the unit 'waits': no None was yielded"),
    "no second try": (Forking(tries=1), "the unit 'dies-once' was given up: its process was killed"),
    "no end of tries": (Forking(tries=99), "killed every time was called 21 times"),
    "left out": (Forgetful(), "without having yielded: dies-always"),
    "answers lost": (Deceived(), "the unit 'stops': yielded with None, not Stop"),
    "nothing done": (Lazy(), "the unit 'ends' was called 0 times"),
    "twice": (Twice(), r"yielded the unit \('ends',\) twice"),
    "one run": (Once(), "without having yielded: later"),
    "left behind": (Leaving(), "a unit goes on after the engine's context"),
    "grid not done": (Picky(), "2 cells aren't trained, though the engine ended as if they were"),
    "no workers": (Forking(count=0), "0 workers"),
    "no summary": (Mute(), "Mute.summary is ''"),
    "needs": (Untold(), "Untold.needs is 'submitit'"),
}  # fmt: skip


SLOW = ("grid not done", "no end of tries", "left behind")


@pytest.mark.parametrize(
    "fault", [pytest.param(f, marks=pytest.mark.slow) if f in SLOW else f for f in FAULTS]
)
def test_a_fault_is_named(fault, monkeypatch):
    for name in ("_SETTLES", "_TURN"):
        monkeypatch.setattr(f"harness.testing.engines.{name}", 1.0)
    engine, message = FAULTS[fault]
    with pytest.raises(AssertionError, match=message):
        check_engine(engine, patience=1.0 if "1 s" in message else 60.0)
    while left:
        left.pop().kill()


def test_a_cell_that_came_out_otherwise_is_named():
    record = {
        "status": "done", "error": None, "val": {"accuracy": 0.5}, "environment": {},
        "digests": {"checkpoint": "a" * 64, "predictions": "b" * 64},
    }  # fmt: skip
    other = record | {"digests": record["digests"] | {"checkpoint": "c" * 64}}
    with pytest.raises(
        AssertionError, match=r"on it: cell isn't as local trains it: digest of checkpoint aaaa.* -> cccc"
    ):
        _require_same({"cell": record}, {"cell": other}, "on it")
    with pytest.raises(AssertionError, match="on it: cell failed: no memory"):
        _require_same(
            {"cell": record}, {"cell": record | {"status": "failed", "error": "no memory"}}, "on it"
        )
    _require_same({"cell": record}, {"cell": dict(record)}, "on it")
