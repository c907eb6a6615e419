"""Run folders: every file appears whole or not at all, ``result.json`` last."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.errors import Locked, RecordError
from harness.seal import BLANK, KEY, file_digest, intact, sealed

RESULT = "result.json"
RESUME = "resume.safetensors"
SEALED = ("spec.json", "history.jsonl", "predictions.csv", "checkpoint.safetensors")  # by the record
_RECORD_KEYS = ("format", "run", "status", "spec", "data", "strategy", "test", "error")
RESUME_SHARE = 0.05  # of the time may go into writing resume files
_ASSUMED_BYTES_PER_SECOND = 200e6  # until the first write has been timed


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Calls ``write`` with a temporary path beside ``path``, then renames it into place, synced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically, UTF-8."""
    write_atomic(path, lambda p: p.write_text(text, encoding="utf-8"))


def to_json(value: Mapping[str, Any], indent: int | None = 2) -> str:
    """JSON without NaN or infinity: what isn't finite becomes null."""
    return json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@dataclass
class RunFolder:
    """One cell's folder."""

    path: Path
    _lock: FileLock = field(init=False, repr=False)
    _last_resume: float = field(init=False, default_factory=time.monotonic, repr=False)
    _cost: float | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        self._lock = FileLock(self.path / ".lock")

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
        return "unfinished" if (self.path / "spec.json").exists() else "absent"

    def result(self) -> dict[str, Any]:
        """The record; RecordError names the file when it can't be read or was changed since."""
        file = self.path / RESULT
        try:
            data = file.read_bytes()
            record = json.loads(data.decode("utf-8"))
        except (OSError, ValueError) as error:
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
        try:
            self._lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            raise Locked(f"run '{self.name}' is being trained by another process") from None
        self._last_resume = time.monotonic()

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
        self._lock.release()

    def write_spec(self, spec: Mapping[str, Any]) -> None:
        """First file of a run; the record of an earlier failure goes, since its other files change now."""
        (self.path / RESULT).unlink(missing_ok=True)
        write_text(self.path / "spec.json", to_json(spec))

    def write_history(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """All epochs so far."""
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
        from safetensors.torch import save_file

        began = time.monotonic()
        whole = {k: v.contiguous() for k, v in tensors.items()}
        write_atomic(self.path / RESUME, lambda p: save_file(whole, p, dict(metadata)))
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

    def write_result(self, record: Mapping[str, Any]) -> None:
        """The done-marker: written last, after which the resume file goes.

        It holds the digests of the other files, and its own.
        """
        files = {name: file_digest(self.path / name) for name in SEALED if (self.path / name).exists()}
        write_text(self.path / RESULT, sealed(to_json({**record, "files": files, KEY: BLANK})))
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
