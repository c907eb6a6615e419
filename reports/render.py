"""A report's data to files: ``report.md`` with ``report_files/``, and one self-contained page.

Both are built whole in memory and then written, each file atomically, so that a report is either
the old one or the new one, never half of each file.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.errors import UnknownName, UsageError
from harness.suites import Reference
from reports import formats as numbers
from reports import markdown, phrases, sections, wording
from reports.as_json import report_json
from reports.fields import clean
from reports.figures.slices import MOST_SLICES
from reports.model import ReportData
from reports.model_card import FILE as CARD
from reports.model_card import model_card
from reports.responsible import rules
from reports.shots import Images, LoadImage
from reports.thumbnails import thumbnail
from reports.views import View, view

Format = Literal["html", "md", "json", "model-card"]
FORMATS: tuple[Format, ...] = ("html", "md", "json", "model-card")
DEFAULT: tuple[Format, ...] = ("html", "md")
FOLDER = "report_files"
MOST_SLICE_ROWS = 200
# What an earlier report may have left in the folder: its own files alone are ever removed.
OWN_FILE = re.compile(r"(experiment|cell|example)-[\w-]+\.(svg|jpg)")


def write_report(
    data: ReportData,
    out: Path,
    images: Images = "names",
    *,
    formats: Collection[Format] = DEFAULT,
    cell: str | None = None,
    load_image: LoadImage = thumbnail,
) -> list[Path]:
    """Writes a file for each of ``formats``, and the Markdown's figures, into ``out``; returns their paths.

    ``images`` says how misclassified images appear: as thumbnails (``embed``), by name or not at
    all. ``cell`` names the one that a model card is of. ``load_image`` gives an example's JPEG, or ``None``
    where its image can't be had. Raises :class:`~harness.errors.UsageError` when ``out`` can't be
    written to or a name is unknown.
    """
    if images not in ("embed", "names", "none"):
        raise UsageError(f"--images should be embed, names or none, it is '{images}'")
    unknown = [f for f in formats if f not in FORMATS]
    if unknown:
        raise UnknownName("format", unknown[0], FORMATS)
    drawn = bool({"html", "md"} & set(formats))
    views = tuple(view(e, images, load_image) for e in data.experiments) if drawn else ()
    context = {
        "report": data,
        "views": views,
        "images": images,
        "private": _private(views),
        "folder": FOLDER,
        "opening": sections.OPENING,
        "sections": sections.EXPERIMENT,
        "closing": sections.CLOSING,
        "worst": MOST_SLICES,
        "most": MOST_SLICE_ROWS,
    }
    files: dict[Path, bytes] = {}
    if "html" in formats:
        files[out / "index.html"] = _render(_html(), "report.html.j2", context)
    if "md" in formats:
        files[out / "report.md"] = _render(_markdown(), "report.md.j2", context)
        files |= {out / FOLDER / name: content for name, content in _pictures(views)}
    if "json" in formats:
        files[out / "report.json"] = report_json(data, images).encode("utf-8", "replace")
    if "model-card" in formats:
        files[out / CARD] = model_card_text(data, cell).encode("utf-8", "replace")
    try:
        _write(files, out)
        if "md" in formats:
            _tidy(files, out / FOLDER)
    except OSError as error:
        raise UsageError(f"the report can't be written to '{out}': {error.strerror or error}") from error
    return list(files)


def fragment(context: Mapping[str, object]) -> str:
    """What a notebook shows of runs, from ``notebook.html.j2``."""
    return _html().get_template("notebook.html.j2").render(context)


def model_card_text(data: ReportData, cell: str | None) -> str:
    """The model card of the cell that ``cell`` names, else of the best one, as Markdown with its metadata."""
    context = {"report": data, "card": model_card(data, cell)}
    return _render(_markdown(), "model_card.md.j2", context).decode()


def _private(views: Iterable[View]) -> str:
    """Why what is written mustn't be passed on; empty where it may."""
    found = [rules(v.experiment.data.card).private for v in views if any(v.jpegs)]
    return next(filter(None, found), "")


def _pictures(views: Iterable[View]) -> Iterator[tuple[str, bytes]]:
    for v in views:
        yield from ((f"{drawn.name}.svg", drawn.file.encode()) for drawn in v.pictures)
        yield from ((jpeg.file, jpeg.content) for jpeg in v.jpegs)


@cache
def _html() -> Environment:
    env = Environment(
        loader=PackageLoader("reports"), autoescape=True, undefined=StrictUndefined,
        finalize=_unbroken, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    env.filters.update(_number_filters())
    env.filters.update(_word_filters())
    env.filters["subset"] = phrases.subset
    env.filters["rules"] = rules
    env.filters["svg"] = lambda drawn: Markup(drawn.inline)  # matplotlib has escaped it
    for name in ("report.css", "theme.js", "report.js"):
        env.globals[name.replace(".", "_")] = _inline(name)
    return env


@dataclass(frozen=True)
class Inline:
    """A script or a style sheet within the page, and its source in the content-security policy."""

    content: Markup
    source: Markup


def _inline(name: str) -> Inline:
    text = resources.files("reports.templates").joinpath(name).read_text("utf-8").strip()
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Inline(Markup(text), Markup(f"'sha256-{digest}'"))


def _unbroken(value: object) -> object:
    """Keeps a number and its percent sign on one line; takes marks of direction and the like from names."""
    return re.sub(r"(?<=\d) (?=%)", "\u00a0", clean(value)) if type(value) is str else value


@cache
def _markdown() -> Environment:
    env = Environment(
        loader=PackageLoader("reports"), autoescape=False, finalize=markdown.escape,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    for name, number in _number_filters().items():
        env.filters[name] = _ready(number)
    env.filters.update(code=markdown.code, block=markdown.block, html=markdown.html, ready=markdown.Ready)
    env.filters.update(_word_filters())
    env.filters["subset"] = _ready(phrases.subset)
    env.filters.update(rules=rules, fence=markdown.fence)
    return env


def _number_filters() -> Mapping[str, Callable[..., str]]:
    return {
        "percent": numbers.percent,
        "interval": numbers.interval,
        "points": numbers.points,
        "width": numbers.width,
        "rate": numbers.rate,
        "rates": numbers.rates,
        "distance": numbers.distance,
        "p": numbers.p_number,
        "number": numbers.count,
        "loss": numbers.loss,
        "area": numbers.area,
        "size": numbers.size,
        "seconds": numbers.seconds,
    }


def _word_filters() -> Mapping[str, Callable[..., object]]:
    return {
        "known_recipes": _known_recipes,
        "listing": numbers.listing,
        "tested_by": phrases.tested_by,
        "reading": phrases.reading,
        "could_find": phrases.could_find,
        "public_command": wording.public_command,
        "slice_reading": phrases.slice_reading,
    }


def _known_recipes(references: Iterable[Reference]) -> list[tuple[str, str]]:
    """Source and note of each reference that has one, each pair once."""
    return list(dict.fromkeys((r.source, r.note) for r in references if r.note))


def _ready(number: Callable[..., str]) -> Callable[..., str]:
    return lambda *values: markdown.Ready(number(*values))


def _render(env: Environment, template: str, context: Mapping[str, object]) -> bytes:
    text = env.get_template(template).render(context)
    return (re.sub(r"\n{3,}", "\n\n", text).strip() + "\n").encode("utf-8", "replace")


def _write(files: Mapping[Path, bytes], out: Path) -> None:
    for folder in {out, *(path.parent for path in files)}:
        folder.mkdir(parents=True, exist_ok=True)
    # Figures before the texts that name them.
    for path in reversed(list(files)):
        _write_atomically(path, files[path])


def _tidy(files: Mapping[Path, bytes], folder: Path) -> None:
    """Removes what an earlier report left, now that nothing names it any more."""
    for old in folder.iterdir() if folder.is_dir() else ():
        if OWN_FILE.fullmatch(old.name) and old not in files:
            old.unlink()


def _write_atomically(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as target:
            target.write(content)
            target.flush()
            os.fsync(target.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise
