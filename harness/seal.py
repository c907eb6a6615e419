"""A JSON file that knows its own digest, so that any changed byte of it is found.

The last key of the file is ``"seal"``: the sha256 of all its bytes, the 64 digits of the seal itself
taken as zeros. It finds accidents and edits; it proves nothing against somebody who seals anew.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

KEY = "seal"
BLANK = "0" * 64
_AT_END = re.compile(rb'"seal": "(?P<digits>[0-9a-f]{64})"\s*\}\s*\Z')
_CHUNK = 2**22


def sealed(text: str) -> str:
    """``text``, JSON whose last key is ``"seal": BLANK``, with its seal filled in."""
    data = text.encode()
    place = _place(data)
    if place is None:
        raise ValueError(f"the text doesn't end in a blank '{KEY}'")
    start, stop = place
    return (data[:start] + _digest(data, start, stop) + data[stop:]).decode()


def intact(data: bytes) -> bool | None:
    """Whether a file's bytes are those that were sealed; None where there is no seal at all."""
    place = _place(data)
    if place is None:
        return False if b'"seal"' in data else None
    start, stop = place
    return data[start:stop] == _digest(data, start, stop)


def parse(data: bytes) -> Any:
    """The JSON of a file's bytes. Raises ValueError where it is none or has a seal that doesn't fit."""
    if intact(data) is False:
        raise ValueError("it was changed after it was written: its seal doesn't fit any more")
    try:
        return json.loads(data.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def file_digest(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _place(data: bytes) -> tuple[int, int] | None:
    found = _AT_END.search(data, max(len(data) - 200, 0))
    return found.span("digits") if found else None


def _digest(data: bytes, start: int, stop: int) -> bytes:
    blank = data[:start] + BLANK.encode() + data[stop:]
    return hashlib.sha256(blank).hexdigest().encode()
