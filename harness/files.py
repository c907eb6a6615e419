"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Calls ``write`` with a temporary path beside ``path``, then renames it into place, synced.

    A file that was there leaves its permissions.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(path, temporary)
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:  # which names a temporary file, or none
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        with contextlib.suppress(OSError):  # it would hide the reason
            temporary.unlink(missing_ok=True)


def write_tensors(path: Path, tensors: Mapping[str, Any], metadata: dict[str, str]) -> None:
    """Writes a safetensors file atomically; its writer's errors of the disk are OSErrors as anybody's."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    def write(temporary: Path) -> None:
        try:
            save_file(dict(tensors), temporary, metadata)
        except SafetensorError as error:
            found = re.search(r"os error (\d+)", str(error))
            if not found:
                raise
            raise OSError(int(found[1]), os.strerror(int(found[1]))) from error

    write_atomic(path, write)


def sync_folder(path: Path) -> None:
    """Makes the names in a folder last through a loss of power, where the system can do that."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


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
