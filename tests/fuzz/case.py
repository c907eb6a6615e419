"""One command line, run in this process in a folder of its own: how it ended, what it said, what it wrote."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from harness import runtime
from harness.cli import main

DEADLINE = 60.0  # seconds of processor time; what is drawn takes a few at most
PATIENCE = 300.0  # seconds on the clock, for what waits: a machine may do other work besides
MEMORY = 6 * 2**30  # bytes of addresses that a case may take beyond what the process has
STATUSES = frozenset({0, 1, 2, 3, 4, 5})  # README's, but for the signals, which nobody sends here
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
# Events of sys.audit: which argument is the path that changes, which one the folder's descriptor.
_CHANGES = {"os.rename": (1, 3), "os.remove": (0, 1), "os.mkdir": (0, 2), "os.link": (1, 3), "os.rmdir": (0, 1),  # noqa: E501
            "os.symlink": (1, 2), "os.truncate": (0, None), "shutil.rmtree": (0, 1)}  # fmt: skip
_ELSEWHERE = ("/dev/", "/proc/", "/sys/")


@dataclass(frozen=True)
class Ended:
    """A command line that came to its end. ``changed`` are the absolute paths it wrote, made or removed."""

    code: object
    out: str
    err: str
    changed: frozenset[str]
    left: tuple[str, ...]  # temporary files that are still there
    seconds: float


class Hung(BaseException):
    """The deadline is over."""


@dataclass
class Watch:
    """Notes what is written and keeps this process from the network while a case runs."""

    active: bool = False
    changed: set[str] = field(default_factory=set)

    def audit(self, name: str, arguments: tuple[object, ...]) -> None:
        if not self.active:
            return
        if name in ("socket.connect", "socket.getaddrinfo"):
            raise OSError(101, "Network is unreachable")
        if name == "open":
            path, _, flags = arguments
            writes = isinstance(flags, int) and flags & _WRITING
            if writes and isinstance(path, str | bytes | os.PathLike):
                self._note(path)
        elif name in _CHANGES:
            at, folder = _CHANGES[name]
            self._note(arguments[at], arguments[folder] if folder and len(arguments) > folder else None)

    def _note(self, path: object, folder: object = None) -> None:
        if isinstance(path, str | bytes | os.PathLike):
            inside = os.readlink(f"/proc/self/fd/{folder}") if isinstance(folder, int) and folder >= 0 else ""  # noqa: PTH115
            text = os.path.abspath(os.path.join(inside, os.fsdecode(path)))  # noqa: PTH100, PTH118
            if not text.startswith(_ELSEWHERE):
                self.changed.add(text)


WATCH = Watch()
sys.addaudithook(WATCH.audit)  # for as long as this process lives; it looks only while a case runs


def run(folder: Path, arguments: list[str], variables: Mapping[str, str], cache: Path) -> Ended:
    """Runs ``harness ARGUMENTS`` in ``folder/work`` with the environment ``variables``."""
    temporary = folder / "tmp"
    temporary.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HARNESS_")}
    own = {
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),  # plugins, for processes that a case starts
        "MPLCONFIGDIR": cache / "matplotlib",
        "HOME": folder,
        "TMPDIR": temporary,
        "HARNESS_CACHE": cache,
        "TORCH_HOME": folder / "torch",
    }
    given = kept | {k: str(v) for k, v in own.items()} | {"OMP_WAIT_POLICY": "PASSIVE"} | dict(variables)
    out, err = _stream("strict"), _stream("backslashreplace")
    with _environment(given), _streams(out, err), _limits(), runtime.preserved():
        torch.set_num_threads(1)
        before = Path.cwd()
        os.chdir(folder / "work")
        began, WATCH.changed, WATCH.active = time.monotonic(), set(), True
        code: object = "returned"
        try:
            main(list(arguments))
        except SystemExit as end:
            code = end.code
        except Hung:
            code = "hung"
        finally:
            WATCH.active = False
            os.chdir(before)
        seconds = time.monotonic() - began
    left = tuple(sorted(p.name for p in temporary.iterdir() if p.name.startswith("harness")))
    return Ended(code, _text(out), _text(err), frozenset(WATCH.changed), left, seconds)


def copy(template: Path, to: Path) -> Path:
    """A folder with ``work``, a copy of ``template``."""
    shutil.copytree(template, to / "work", symlinks=True)
    return to


def _stream(errors: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors=errors, write_through=True)


def _text(stream: io.TextIOWrapper) -> str:
    return stream.buffer.getvalue().decode()  # type: ignore[attr-defined]


@contextlib.contextmanager
def _environment(given: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    temporary, tempfile.tempdir = tempfile.tempdir, None
    os.environ.clear()
    os.environ.update(given)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        tempfile.tempdir = temporary


@contextlib.contextmanager
def _streams(out: io.TextIOWrapper, err: io.TextIOWrapper) -> Iterator[None]:
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, err
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


@contextlib.contextmanager
def _limits() -> Iterator[None]:
    """No longer than the deadline, no more memory than is reasonable, signals as they were afterwards."""

    def alarm(signum: int, frame: object) -> None:
        raise Hung

    assert threading.current_thread() is threading.main_thread()
    handlers = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGALRM, signal.SIGPROF)}
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    signal.signal(signal.SIGALRM, alarm)
    signal.signal(signal.SIGPROF, alarm)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    signal.setitimer(signal.ITIMER_PROF, DEADLINE)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.dont_write_bytecode = bytecode
        for number, handler in handlers.items():
            signal.signal(number, handler)
