"""Who holds a run folder, said in a note that every machine can read.

The kernel's lock ends with its process, but it may not reach beyond one machine: NFS passes flock on
unless it was mounted otherwise, some parallel file systems don't, and one whose machine lost power may
stay locked. So whoever has the lock also leaves a note: host, process, boot and start of the process,
and a time that is renewed while it lives. A note whose process is gone on this machine, or that no
other machine has renewed for a while, is stale, and its folder is taken over.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import Locked

RENEWED_EVERY = 15.0  # seconds
STALE_AFTER = 90.0  # seconds without a renewal, by the file system's own clock
_SETTLED_AFTER = 2.0  # seconds until another machine that took over at the same time would be seen
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass
class Owner:
    """The note ``file``; :meth:`claim` makes it this process's own, :meth:`release` takes it away."""

    file: Path
    _token: str | None = field(default=None, repr=False)
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)

    def claim(self) -> None:
        """Raises Locked, naming the holder, where the note is of a process that lives."""
        token = secrets.token_hex(16)
        draft = self.file.with_name(f"{self.file.name}-{token}.{os.getpid()}")
        draft.write_text(json.dumps(_here() | {"token": token}), encoding="utf-8")
        try:
            if not _link(draft, self.file):
                self._take_over(draft, token)
        finally:
            draft.unlink(missing_ok=True)
        self._token, self._stop = token, threading.Event()
        threading.Thread(target=_renew, args=(self.file, token, self._stop), daemon=True).start()

    def release(self) -> None:
        """Takes the note away, if it is still this process's own."""
        self._stop.set()
        if self.held():
            self.file.unlink(missing_ok=True)
        self._token = None

    def held(self) -> bool:
        """Whether the note is still this process's own; another machine takes over what seems dead."""
        found = _read(self.file)
        return self._token is not None and found is not None and found[0].get("token") == self._token

    def lost(self) -> bool:
        """Whether it was claimed and isn't this process's own any more."""
        return self._token is not None and not self.held()

    def _take_over(self, draft: Path, token: str) -> None:
        found = _read(self.file)
        if found is not None:
            note, age = found[0], draft.stat().st_mtime - found[1]
            here = _same_machine(note)
            if _alive(note) if here else age < STALE_AFTER:
                seen = "" if here else f", last seen {max(age, 0):.0f} s ago"
                raise Locked(f"held by process {note.get('pid')} on {note.get('host')}{seen}")
            draft.replace(self.file)
            if not here:
                time.sleep(_SETTLED_AFTER)
        elif not _link(draft, self.file):
            raise Locked("held by a process that has just begun")
        now = _read(self.file)
        if now is None or now[0].get("token") != token:
            raise Locked("held by another process, which took it over first")


def _link(draft: Path, file: Path) -> bool:
    """Gives ``draft`` the name ``file`` as well, unless that exists: in one step, on NFS too."""
    try:
        os.link(draft, file)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        try:
            with file.open("x", encoding="utf-8") as handle:
                handle.write(draft.read_text(encoding="utf-8"))
        except FileExistsError:
            return False
    return True


def _renew(file: Path, token: str, stop: threading.Event) -> None:
    while not stop.wait(RENEWED_EVERY):
        found = _read(file)
        if found is None or found[0].get("token") != token:
            return
        with contextlib.suppress(OSError):
            os.utime(file)  # the server's time, not this machine's


def _read(file: Path) -> tuple[Mapping[str, Any], float] | None:
    """The note and when it was renewed; an unreadable one says nothing but its age."""
    try:
        with file.open("rb") as handle:  # opening it asks a server for its attributes anew
            data, renewed = handle.read(), os.fstat(handle.fileno()).st_mtime
    except OSError:
        return None
    try:
        note = json.loads(data)
    except ValueError:
        note = None
    return note if isinstance(note, dict) else {}, renewed


def _here() -> dict[str, object]:
    return {
        "host": socket.gethostname(),
        "machine": _machine(),
        "pid": os.getpid(),
        "start": _start(os.getpid()),
    }


def _machine() -> str:
    """This boot of this machine, and the space of its process numbers; empty where nothing says."""
    try:
        return f"{_BOOT.read_text().strip()} {Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def _start(pid: int) -> int | None:
    """When a process began, in ticks since boot, so that a number given again isn't taken for it."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def _same_machine(note: Mapping[str, Any]) -> bool:
    if not _machine():
        return note.get("host") == socket.gethostname()
    return note.get("machine") == _machine()


def _alive(note: Mapping[str, Any]) -> bool:
    """Of this machine's processes, whose lock the caller has: without a list of them it is dead."""
    pid = note.get("pid")
    return isinstance(pid, int) and _start(pid) == note.get("start") is not None
