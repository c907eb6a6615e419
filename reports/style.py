"""Colours and the way a figure becomes text; shared by all figures.

Figures are drawn once, in stand-in colours, and come out twice: for the page, where text takes the
page's colour in light and dark alike, and as a file of its own on white.
"""

from __future__ import annotations

import io
import re
import warnings
from contextlib import AbstractContextManager
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from reports.svg import compact

# Okabe and Ito's palette, told apart by colour-blind readers; black and yellow are left out
# because they vanish on a dark or a light page.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
TRAIN, VALIDATION = "#56B4E9", "#D55E00"
GREY = "#888888"
DASHES = ("-", "--", ":", "-.")

INK = "#010203"  # stands for the colour of text
FILE_INK = "#222222"

SETTINGS: Any = {
    "svg.fonttype": "none",  # text stays text: smaller, searchable, read aloud
    "svg.hashsalt": "harness",  # the same figure has the same bytes
    "figure.facecolor": "none",  # the page shows through
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,  # a "$" in a name is a dollar
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GREY,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Picture:
    """A figure: its name (safe as a file's), what it shows in words, and its SVG with stand-in ink."""

    name: str
    alt: str
    drawn: str

    @property
    def inline(self) -> str:
        """The ``<svg>`` element for an HTML page, in the page's text colour."""
        svg = self.drawn[self.drawn.index("<svg") :].replace(INK, "currentColor")
        return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(self.alt)}" ', 1).strip()

    @property
    def file(self) -> str:
        """A whole SVG file on white."""
        white = '<rect width="100%" height="100%" fill="#ffffff"/>'
        return re.sub(r"(<svg [^>]*>)", rf"\1{white}", self.drawn, count=1).replace(INK, FILE_INK)


def picture(name: str, alt: str, figure: Figure) -> Picture:
    """The figure as SVG, without dates, and with ids that no other figure on the page has."""
    target = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the reader's fonts have it
        FigureCanvasSVG(figure).print_svg(target, metadata={"Date": None, "Creator": None})
    return Picture(name, alt, compact(target.getvalue(), name))


def drawing() -> AbstractContextManager[None]:
    """The context in which figures are made: matplotlib's settings, put back afterwards."""
    return matplotlib.rc_context(SETTINGS)
