"""Where a key stands in a TOML file: the parser of the standard library doesn't say."""

from __future__ import annotations

import re
from collections.abc import Iterator

_HEADER = re.compile(r"\s*(\[\[?)\s*([\w.\"'-]+)\s*\]\]?")
_KEY = re.compile(r"\s*[\"']?([\w-]+)[\"']?\s*=")


def line_of(text: str, table: str, key: str = "") -> int | None:
    """Number of the line of ``key`` in ``table`` (``data``, ``expect[2]``; empty: the top level).

    The table's own line where it lacks the key, None where the file lacks the table.
    """
    found = None if table else 1
    owners = (table, table.split(".")[0])  # what is inside an inline table stands below its owner
    for number, name, keys in _places(text):
        if name in owners and key in keys:
            return number
        if name in owners and not keys:
            found = number
        if not (table or keys) and key and re.split(r"[.\[]", name)[0] == key:  # a table at the top level
            return number
    return found


def _places(text: str) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """(line, table, ()) of each table's header and (line, table, (key,)) of each key."""
    counts: dict[str, int] = {}
    current, quotes, depth = "", "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if quotes:
            quotes = "" if quotes in line else quotes
            continue
        header, key = (None, None) if depth > 0 else (_HEADER.match(line), _KEY.match(line))
        if header:
            bracket, current = header.groups()
            if bracket == "[[":
                counts[current] = counts.get(current, -1) + 1
                current = f"{current}[{counts[current]}]"
            yield number, current, ()
            continue
        if key:
            yield number, current, (key[1],)
        opened = re.search(r'"""|\'\'\'', line)
        if opened and line.count(opened[0]) % 2:
            quotes = opened[0]
        bare = re.sub(r"\"(?:\\.|[^\"\\])*\"|'[^']*'|#.*", "", line)
        depth += sum(map(bare.count, "[{")) - sum(map(bare.count, "]}"))
