"""Text that comes from outside, made harmless in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable

from reports.fields import clean

# Underscores inside a word mean nothing, so that names such as last_block stay readable.
_MARKS = re.compile(r"[\\`*\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_LINE_START = re.compile(r"^(\s*)(#|[-+](?=\s)|=|(\d+)(?=[.)](?:\s|$)))")


class Ready(str):
    """Markdown that needs no escaping any more."""

    __slots__ = ()


def escape(value: object) -> str:
    """A value as Markdown that shows exactly its text; what is :class:`Ready` stays as it is.

    Tags, table bars, code and emphasis marks, links and line breaks all lose their meaning.
    """
    if isinstance(value, Ready):
        return value
    text = clean(str(value))
    text = re.sub(r"[&<>]", lambda m: _ENTITIES[m[0]], text)
    text = _MARKS.sub(lambda m: "\\" + m[0], text)
    return _LINE_START.sub(lambda m: f"{m[1]}{m[3]}\\" if m[3] else f"{m[1]}\\{m[2]}", text)


def html(value: object) -> Ready:
    """A value within a line of HTML, where Markdown's marks mean nothing and backslashes would show."""
    text = clean(str(value))
    return Ready(re.sub(r"[&<>]", lambda m: _ENTITIES[m[0]], text))


def code(value: object) -> Ready:
    """An inline code span that holds the value, whatever backticks are in it; not for table cells."""
    text = clean(str(value))
    fence = "`" * (_longest_run(text) + 1)
    pad = " " if text[:1] in ("`", " ") or text[-1:] in ("`", " ") else ""
    return Ready(f"{fence}{pad}{text}{pad}{fence}")


def block(value: object) -> Ready:
    """A fenced block of one command."""
    return fence([str(value)], "sh")


def fence(lines: Iterable[str], language: str) -> Ready:
    """A fenced block of some lines."""
    text = "\n".join(map(clean, lines))
    marks = "`" * max(3, _longest_run(text) + 1)
    return Ready(f"{marks}{language}\n{text}\n{marks}")


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall(r"`+", text)), default=0)
