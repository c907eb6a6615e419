"""The files of a run folder as text and JSON, each failure naming the file."""

from __future__ import annotations

import json
from pathlib import Path

from harness.errors import RecordError


def read_text(file: Path) -> str:
    """The text of a file in UTF-8, line ends as they are: a quoted name may hold some."""
    try:
        return file.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise RecordError(f"{file} doesn't exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{file} can't be read: {error}") from error


def parse_json(file: Path, text: str, line: int | None = None) -> object:
    """The JSON in ``text``, which is ``file`` or its line ``line``."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise RecordError(f"{file}:{line or error.lineno}: not valid JSON: {error.msg}") from error
    except RecursionError:
        raise RecordError(f"{file}:{line or 1}: not valid JSON: nested too deeply") from None
