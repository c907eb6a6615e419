"""Files that list images and their labels, as Hypothesis draws them, and how pandas reads them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from hypothesis import strategies as st

from fuzz.texts import mutated

# Images that are there, and some that aren't.
THERE = (
    "000001.jpg",
    "000002.jpg",
    "000003.jpg",
    "a-b.jpg",
    "ü.jpg",
    "1",
    "100%.jpg",
    "x.y.z",
    "nan.jpg",
    "NA",
)
ABSENT = ("000004.jpg", "gone.jpg")
FILES = st.sampled_from([*THERE * 3, *ABSENT])
COLUMNS = ("Smiling", "Male", "Young", "5_o_Clock_Shadow", "é", "NA", "1")
BITS = st.sampled_from([-1, 1]) | st.sampled_from([0, 1])
ODD_CELLS = st.sampled_from(
    ["", "2", "+1", "01", "1.0", "yes", "nan", "a b", '"', "'", "\u2028", "x" * 200, "-"]
)
STRAY = [
    "\r",
    "\n\n",
    ",",
    ",,",
    "\t",
    '"',
    '""',
    "\0",
    "\udcff",
    "\ufeff",
    "\xa0",
    "\u2028",
    "\x0c",
    " ",
    ";",
    "#",
]


@dataclass(frozen=True)
class Written:
    """A file's bytes, and the rows that it was made of (None: something was changed)."""

    content: bytes
    rows: tuple[tuple[str, ...], ...] | None = None


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def rows_of(content: bytes, separator: str, skipped: int = 0) -> list[list[str]]:
    """All rows as pandas has them, the header one of them; raises what pandas raises.

    Of words between blanks each row is read for itself, since a header there is shorter than its rows, and
    behind an empty line, since pandas takes a mark at the very beginning for one of byte order.
    """
    text = content.decode("utf-8-sig")
    shared: dict[str, Any] = {"header": None, "dtype": str, "keep_default_na": False, "na_filter": False}
    if separator == " ":
        lines = text.replace("\r\n", "\n").replace("\r", "\n").rstrip(" \t\n\f").split("\n")[skipped:]
        return [
            pd.read_csv(io.StringIO(f"\n{line}"), sep=r"\s+", quoting=csv.QUOTE_NONE, **shared)
            .iloc[0]
            .tolist()
            for line in lines
        ]
    return pd.read_csv(io.StringIO(text), sep=separator, **shared).to_numpy().tolist()


@st.composite
def whole(
    draw: st.DrawFn, header: tuple[str, ...], cells: Mapping[str, st.SearchStrategy[Any]], separator: str
) -> Written:
    """A header and rows, written as programs write them: quotes, line ends, blanks, a byte order mark."""
    files = draw(st.lists(FILES, min_size=1, max_size=8, unique=True))
    rows = [(name, *map(str, draw(st.tuples(*(cells[column] for column in header[1:]))))) for name in files]
    end = draw(st.sampled_from(["\n", "\r\n"]))
    stream = io.StringIO()
    if separator in ("", " "):  # between blanks, CelebA's way; "" without its two lines of header
        between = draw(st.sampled_from([" ", "  ", "\t"]))
        if separator:
            stream.write(f"{len(rows)}{end}{between.join(header[1:])}{draw(st.sampled_from(['', ' ']))}{end}")
        stream.write(end.join(between.join(row) for row in rows))
    else:
        quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]))
        csv.writer(stream, delimiter=separator, lineterminator=end, quoting=quoting).writerows(
            [header, *rows]
        )
    mark = draw(st.sampled_from(["", "", "\ufeff"]))
    text = mark + stream.getvalue().rstrip("\r\n") + draw(st.sampled_from(["", end, end * 2]))
    return Written(encoded(text), (header, *rows))


@st.composite
def broken(draw: st.DrawFn, files: st.SearchStrategy[Written]) -> Written:
    """One to three changes in a file: lines, cells, characters."""
    text = draw(files).content.decode()
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["line", "stray", "cell", "bytes"]))
        at = draw(st.integers(0, len(text)))
        if kind == "line":
            text = draw(mutated(text, 1))
        elif kind == "cell":  # what stands between two separators, if any stands there
            start = max(text.rfind(s, 0, at) for s in ", \t\n") + 1
            ends = [e for s in ", \t\n" if (e := text.find(s, at)) >= 0]
            text = text[:start] + draw(ODD_CELLS) + text[min(ends, default=len(text)) :]
        else:
            text = text[:at] + draw(st.sampled_from(STRAY)) + text[at + (kind == "bytes") :]
    return Written(encoded(text))
