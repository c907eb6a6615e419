"""The shell blocks of a page, in order, and the files that it shows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# A report that was made quotes the commands that made it; they are in its records too.
PAGES = [ROOT / "README.md", *(p for p in sorted(DOCS.rglob("*.md")) if "example-report" not in p.parts)]

_BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>[^\n]+?) -->\n+)?```(?P<kind>\w+)(?P<given>[^\n]*)\n(?P<text>.*?)```", re.S
)


@dataclass(frozen=True)
class Block:
    """``kind`` is sh or the language of a file; ``reason`` says why a test doesn't run it."""

    page: str
    kind: str
    text: str
    reason: str | None = None
    file: str | None = None


def parse(page: str, text: str) -> list[Block]:
    """Shell blocks, and others whose title names a file."""
    found = []
    for match in _BLOCK.finditer(text):
        title = re.search(r'title="([^"]+)"', match["given"])
        if match["kind"] == "sh" or title:
            file = title[1] if title else None
            found.append(Block(page, match["kind"], match["text"], match["reason"], file))
    return found
