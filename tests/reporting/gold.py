"""Whole reports compared with golds that a person has read.

A gold that differs fails with the first differences, saves what came out and says where. Where that is right,
copy it over the gold, read the diff, and commit it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path

GOLDS = Path(__file__).parent / "golds"

# What may differ without the report being another: name -> pattern and what stands for it.
SCRUBS: dict[str, tuple[str, str]] = {
    "folder": (r"(?:/[\w.-]+)+/(?=runs\b)", "FOLDER/"),
    "version": (r"(?<=harness )\d+\.\d+\.\d+\w*", "VERSION"),
}


def check_gold(name: str, text: str, actual: Path, scrubs: Iterable[str] = SCRUBS) -> None:
    """Holds ``text`` against the gold ``name``; a failure leaves it, scrubbed, in the folder ``actual``."""
    for scrub in scrubs:
        text = re.sub(*SCRUBS[scrub], text)
    gold = GOLDS / name
    wanted = gold.read_text("utf-8") if gold.exists() else ""
    if text == wanted:
        return
    saved = actual / name
    saved.write_text(text, "utf-8")
    lines = difflib.unified_diff(wanted.splitlines(), text.splitlines(), "gold", "actual", lineterm="", n=1)
    shown = "\n".join(line[:240] for line in list(lines)[:40])
    raise AssertionError(f"{gold} differs; what came out is {saved}\n{shown}")


class _Text(HTMLParser):
    """The words of a page, a line a block, headings and cells marked, a figure by what is read aloud."""

    BLOCKS = {
        "p",
        "li",
        "tr",
        "h1",
        "h2",
        "h3",
        "h4",
        "caption",
        "dt",
        "summary",
        "pre",
        "figcaption",
        "title",
    }

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = [""]
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag in self.BLOCKS:
            self.lines.append("#" * int(tag[1]) + " " if re.fullmatch("h[1-4]", tag) else "")
        elif tag == "svg":
            self.lines.append(f"[figure: {found['aria-label']}]")
        elif tag == "img":
            self.lines.append(f"[image: {found['alt']}]")
        elif tag == "br":
            self.lines[-1] += " / "
        elif tag in ("th", "td", "dd"):
            self.lines[-1] += " | "
        self.hidden += tag in ("svg", "style", "script")

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag in ("svg", "style", "script")
        if tag in self.BLOCKS:
            self.lines.append("")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.lines[-1] += re.sub(r"\s+", " ", data)


def page_text(html: str) -> str:
    """What a page says, without its looks."""
    reader = _Text()
    reader.feed(html)
    lines = (re.sub(r" {2,}", " ", line).strip() for line in reader.lines)
    return "\n".join(line for line in lines if line) + "\n"
