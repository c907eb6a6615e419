"""A process that has imported everything and forks a child for each command, with a fault on request.

Requests and answers are lines of JSON on standard input and output. A fault strikes at the ``at``-th of
the child's changes to files below its folder: before a file is opened for writing, renamed, removed,
linked, a folder is made; before a sync; and in the middle of a write, half of it done.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import sys
import time

import safetensors.torch

from core import small  # noqa: F401
from harness.cli import main

_AUDITED = {"os.rename": "rename", "os.remove": "remove", "os.mkdir": "mkdir", "os.link": "link"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Faults:
    """Counts changes, and strikes."""

    def __init__(self, work: str, fault: dict) -> None:
        self.work, self.fault, self.count, self.busy = work, fault, 0, False

    def install(self) -> None:
        sys.addaudithook(self.audit)
        self.fsync, self.save, self.text = os.fsync, safetensors.torch.save_file, pathlib.Path.write_text
        os.fsync = lambda handle: (self.event("fsync", f"{self.work}/"), self.fsync(handle))[1]
        safetensors.torch.save_file = self.save_file
        pathlib.Path.write_text = lambda path, text, **given: self.write_text(path, text, given)

    def audit(self, name: str, arguments: tuple) -> None:
        if name == "open":
            path, _, flags = arguments
            if isinstance(path, str | os.PathLike) and isinstance(flags, int) and flags & _WRITING:
                self.event("open", os.fspath(path))
        elif name in _AUDITED:
            self.event(_AUDITED[name], os.fspath(arguments[0]))

    def event(self, kind: str, path: str, halfway=lambda: None) -> None:
        if self.busy or not os.path.abspath(path).startswith(f"{self.work}/"):  # noqa: PTH100
            return
        self.count += 1
        at = self.fault.get("at")
        if at is None or (self.count < at if self.fault.get("stays") else self.count != at):
            return
        if "errno" in self.fault:
            if kind != "remove":
                halfway()
                raise OSError(self.fault["errno"], os.strerror(self.fault["errno"]), path)
            return
        halfway()
        os.kill(os.getpid(), self.fault["signal"])

    def write_text(self, path: pathlib.Path, text: str, given: dict) -> int:
        self.event("write", os.fspath(path), lambda: self.half(path, text[: len(text) // 2].encode()))
        return self.text(path, text, **given)

    def save_file(self, tensors, path, metadata=None) -> None:
        whole = safetensors.torch.save(tensors, metadata)

        def fail(content: bytes) -> None:
            self.half(pathlib.Path(path), content)
            if "errno" in self.fault:  # as safetensors says it
                number = self.fault["errno"]
                raise safetensors.SafetensorError(
                    f"Error while serializing: I/O error: {os.strerror(number)} (os error {number})"
                )

        self.event("write", os.fspath(path), lambda: fail(whole[: len(whole) // 2]))
        self.save(tensors, path, metadata)

    def half(self, path: pathlib.Path, content: bytes) -> None:
        self.busy = True
        path.write_bytes(content)
        self.busy = False


def child(request: dict) -> None:
    work = request["work"]
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{work}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.environ["HARNESS_CACHE"] = request.get("cache") or f"{work}/cache"
    os.environ.update(request.get("env") or {})
    os.chdir(work)
    faults = Faults(request.get("watch", work), request.get("fault") or {})
    faults.install()
    code = 1
    try:
        main(request["argv"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        pathlib.Path(f"{work}.count").open("w").write(str(faults.count))  # noqa: SIM115
        os._exit(code)


def answer(requests: list[dict]) -> list[dict]:
    """Runs the commands at once."""
    children = []
    for request in requests:
        pathlib.Path(request["work"]).mkdir(parents=True, exist_ok=True)
        pid = os.fork()
        if not pid:
            sys.stdin.close()
            child(request)
        children.append(pid)
    statuses: dict[int, int] = {}
    for request, pid in zip(requests, children, strict=True):
        after = (request.get("fault") or {}).get("after")
        if after is not None:
            time.sleep(after)
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                os.kill(pid, request["fault"]["signal"])
            else:
                statuses[pid] = 0
        ends = time.monotonic() + 120
        while pid not in statuses and time.monotonic() < ends:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                statuses[pid] = os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        if pid not in statuses:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            statuses[pid] = -999  # hung
    read = [
        {
            "code": statuses[pid],
            **{name: _text(f"{request['work']}.{name}") for name in ("out", "err", "count")},
        }
        for request, pid in zip(requests, children, strict=True)
    ]
    return read


def _text(path: str) -> str:
    file = pathlib.Path(path)
    return file.read_text(errors="replace") if file.exists() else ""


def warm(folder: str, argv: list[str]) -> None:
    """One run, so that no child has to import what torch imports when it is first used."""
    out, err = os.dup(1), os.dup(2)
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    os.environ["HARNESS_CACHE"] = f"{folder}/warm/cache"
    os.makedirs(f"{folder}/warm")  # noqa: PTH103
    os.chdir(f"{folder}/warm")
    with contextlib.suppress(SystemExit):
        main(argv)
    sys.stdout.flush()
    os.dup2(out, 1)
    os.dup2(err, 2)


if __name__ == "__main__":
    warm(sys.argv[1], json.loads(sys.argv[2]))
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
