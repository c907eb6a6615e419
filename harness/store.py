"""Run folders: every file appears whole or not at all, ``result.json`` last."""

from __future__ import annotations

import errno
import json
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.errors import Locked, RecordError
from harness.files import sync_folder, to_json, write_tensors, write_text
from harness.owner import Owner
from harness.seal import BLANK, KEY, file_digest, intact, sealed

RESULT = "result.json"
RESUME = "resume.safetensors"
SEALED = ("spec.json", "history.jsonl", "predictions.csv", "checkpoint.safetensors")  # by the record
_RECORD_KEYS = ("format", "run", "status", "spec", "data", "strategy", "test", "error")
_TEMPORARY = re.compile(r"\..+\.\d+")
_ASK_AGAIN = 5.0  # seconds between looks at a folder that another machine holds
RESUME_SHARE = 0.05  # of the time may go into writing resume files
_ASSUMED_BYTES_PER_SECOND = 200e6  # until the first write has been timed


@dataclass
class RunFolder:
    """One cell's folder."""

    path: Path
    _lock: FileLock = field(init=False, repr=False)
    _owner: Owner = field(init=False, repr=False)
    _last_resume: float = field(init=False, default_factory=time.monotonic, repr=False)
    _cost: float | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        self._lock = FileLock(self.path / ".lock", fallback_to_soft=False)
        self._owner = Owner(self.path / ".owner")

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def checkpoint(self) -> Path:
        """The tensors that training changed."""
        return self.path / "checkpoint.safetensors"

    def status(self) -> str:
        """``done``, ``failed``, ``unfinished`` or ``absent``."""
        if (self.path / RESULT).exists():
            return str(self.result().get("status", "done"))
        return "unfinished" if self.begun() else "absent"

    def begun(self) -> bool:
        """Whether anybody has begun to train it, done or not."""
        return (self.path / "spec.json").exists()

    def result(self) -> dict[str, Any]:
        """The record; RecordError names the file when it can't be read or was changed since."""
        file = self.path / RESULT
        try:
            data = file.read_bytes()
            record = json.loads(data.decode("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise RecordError(f"can't read '{file}': {error}") from error
        lacking = [k for k in _RECORD_KEYS if not isinstance(record, dict) or k not in record]
        if lacking:
            raise RecordError(f"'{file}' is no record of a run: it lacks '{lacking[0]}'")
        if intact(data) is False:
            raise RecordError(f"'{file}' was changed after it was written: its seal doesn't fit any more")
        return record

    def lock(self, wait: bool) -> None:
        """Takes the folder for this process; Locked where another has it and ``wait`` is false."""
        self.path.mkdir(parents=True, exist_ok=True)
        while not self._take(wait):
            time.sleep(_ASK_AGAIN)
        for left in self.path.glob(".*"):  # by a writer that was killed
            if _TEMPORARY.fullmatch(left.name):
                left.unlink(missing_ok=True)
        self._last_resume = time.monotonic()

    def _take(self, wait: bool) -> bool:
        """The kernel's lock, then the note for those that it doesn't reach; false to try again."""
        try:
            self._lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            raise Locked(f"run '{self.name}' is being trained by another process") from None
        except OSError as error:
            if error.errno != errno.ENOSYS:  # a file system without locks has the note alone
                raise
        try:
            self._owner.claim()
        except Locked as error:
            self._lock.release()
            if wait:
                return False
            raise Locked(f"run '{self.name}' is being trained: {error}") from None
        except BaseException:
            self._lock.release()
            raise
        return True

    def _check_held(self) -> None:
        """Before anything is written: another machine takes over what was silent for too long."""
        if self._owner.lost():
            raise Locked(
                f"run '{self.name}' was taken over by another machine: this process was silent too long"
            )

    def free(self) -> bool:
        """Whether no process holds the folder at this moment."""
        if not self.path.is_dir():
            return True
        try:
            self.lock(wait=False)
        except Locked:
            return False
        self.unlock()
        return True

    def unlock(self) -> None:
        """Gives the folder back."""
        self._owner.release()
        self._lock.release()

    def write_spec(self, spec: Mapping[str, Any]) -> None:
        """First file of a run; the record of an earlier failure goes, since its other files change now."""
        (self.path / RESULT).unlink(missing_ok=True)
        write_text(self.path / "spec.json", to_json(spec))

    def write_history(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """All epochs so far."""
        self._check_held()
        write_text(self.path / "history.jsonl", "".join(to_json(row, indent=None) for row in rows))

    def read_history(self) -> list[dict[str, Any]]:
        """The epochs that ``write_history`` wrote, or none."""
        file = self.path / "history.jsonl"
        return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []

    def wants_resume(self, nbytes: int, beside: int = 1) -> bool:
        """Whether a resume file of ``nbytes`` may be written now without costing over 5 % of the time.

        ``beside`` runs share that time.
        """
        cost = self._cost if self._cost is not None else nbytes / _ASSUMED_BYTES_PER_SECOND
        return time.monotonic() - self._last_resume >= beside * cost / RESUME_SHARE

    def write_resume(self, tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
        """Replaces the resume file."""
        self._check_held()
        began = time.monotonic()
        whole = {k: v.contiguous() for k, v in tensors.items()}
        write_tensors(self.path / RESUME, whole, dict(metadata))
        self._last_resume = time.monotonic()
        self._cost = self._last_resume - began

    def read_resume(self) -> tuple[dict[str, Any], dict[str, str]] | None:
        """Tensors and metadata of the resume file, or None where there is none that can be read."""
        from safetensors import SafetensorError, safe_open

        file = self.path / RESUME
        if not file.exists():
            return None
        try:
            with safe_open(file, framework="pt") as handle:
                tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
                return tensors, dict(handle.metadata() or {})
        except (SafetensorError, OSError) as error:
            raise RecordError(f"can't read '{file}': {error}") from error

    def tidy(self) -> None:
        """Removes what a process left that was stopped just after its run was done."""
        left = [RESUME, self._owner.file.name]
        if any((self.path / name).exists() for name in left) and self.status() == "done" and self.free():
            (self.path / RESUME).unlink(missing_ok=True)

    def kept_epoch(self) -> int:
        """The epoch that the resume file goes on from; 0 where there is none that can be read."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path / RESUME, framework="np") as handle:
                return int((handle.metadata() or {})["epoch"])
        except (SafetensorError, OSError, KeyError, ValueError):
            return 0

    def write_result(self, record: Mapping[str, Any]) -> None:
        """The done-marker: written last, after which the resume file goes.

        It holds the digests of the other files, and its own.
        """
        self._check_held()
        files = {name: file_digest(self.path / name) for name in SEALED if (self.path / name).exists()}
        sync_folder(self.path)  # so that no crash leaves the record without what it vouches for
        write_text(self.path / RESULT, sealed(to_json({**record, "files": files, KEY: BLANK})))
        sync_folder(self.path)
        if record["status"] == "done":  # what failed may go on from there, once its reason is gone
            (self.path / RESUME).unlink(missing_ok=True)


def list_runs(folder: Path) -> tuple[RunFolder, ...]:
    """Every run below ``folder``, by name."""
    if not folder.is_dir():
        return ()
    return tuple(RunFolder(p) for p in sorted(folder.iterdir()) if (p / "spec.json").exists())


def remove_run(run: RunFolder) -> None:
    """Deletes a run's folder, unless another process is at it."""
    run.lock(wait=False)
    try:
        shutil.rmtree(run.path)
    finally:
        run.unlock()
