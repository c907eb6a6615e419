"""Tables of Hugging Face datasets on this machine: Parquet and Arrow files that hold images.

The files are read as they are, by pyarrow (:mod:`harness.data.rows`); the ``datasets`` library would first
write all of it a second time, as Arrow files in a cache of its own. It is the oracle of the tests.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.contracts import UNSTATED, DataCard, SampleTable
from harness.data.columns import GROUP_NAMES, LABEL_NAMES, Found, Sample, as_table, split_of
from harness.data.listed import Missing, require_path
from harness.data.members import row_member
from harness.data.rows import RowFile, open_rows
from harness.errors import DataError, UnknownName

if TYPE_CHECKING:
    import pyarrow as pa

_KINDS = (".parquet", ".arrow")
_IMAGE_NAMES = ("image", "img", "picture", "photo", "jpg", "png", "pixel_values")


@dataclass(frozen=True)
class HuggingFace:
    """A ``.parquet`` or ``.arrow`` file, a folder of them, or what ``save_to_disk`` wrote.

    The image is the column of that feature (bytes, or a path relative to the file), the label the one
    column of class labels or one called ``label``, or ``target``. File names that speak of train,
    validation and test are the official split. Rows stay in the order of storage; a sample's id is its
    image's path where those are all different, else file and row.
    """

    name: ClassVar[str] = "hf"
    summary: ClassVar[str] = "Parquet or Arrow files with images in them, as Hugging Face datasets"
    default_target: ClassVar[str | None] = None
    default_split: ClassVar[str] = "auto"
    needs_path: ClassVar[bool] = True

    def read(self, path: Path | None, *, target: str | None, missing: Missing) -> SampleTable:
        root = require_path(path, self.name, "a .parquet or .arrow file, or a folder of them")
        card = DataCard(
            title=root.stem,
            description="Images in Parquet or Arrow files.",
            labels="A column of the files.",
            license=UNSTATED,
        )
        return read_rows(root, card, target, missing)


def read_rows(root: Path, card: DataCard, target: str | None, missing: Missing) -> SampleTable:
    """The samples of a file, or of all files below a folder."""
    files = [_Part(root, file, open_rows(str(file))) for file in _files(root)]
    layout = _layout(files[0], target)
    for part in files[1:]:
        _check_alike(part, files[0], layout)
    samples = [sample for part in files for sample in part.samples(layout)]
    others: dict[str, list[object]] = {name: [] for name in layout.others}
    for part in files:
        table = part.rows.columns(layout.others)
        for name in layout.others:
            others[name] += table.column(name).to_pylist()
    return as_table(Found(samples, others, layout.classes), str(root), card, layout.label, missing)


@dataclass(frozen=True)
class _Layout:
    """Which column is what. ``classes`` are the label's names; ``others`` may be attributes or groups."""

    image: str
    label: str
    classes: tuple[str, ...] | None
    others: tuple[str, ...]


@dataclass(frozen=True)
class _Part:
    """One file."""

    root: Path
    file: Path
    rows: RowFile

    @property
    def name(self) -> str:
        return self.file.relative_to(self.root if self.root != self.file else self.file.parent).as_posix()

    def samples(self, layout: _Layout) -> Iterator[Sample]:
        kind = _kind(self.rows.schema.field(layout.image).type)
        none: Sequence[Any] = [None] * self.rows.count
        names = none
        if kind == "path" or "path" in kind:
            column = layout.image if kind == "path" else f"{layout.image}.path"
            names = self.rows.columns([column]).column(0).to_pylist()
        empty = [True] * self.rows.count
        if kind != "path":
            empty = self.rows.without(layout.image, "" if kind == "bytes" else "bytes").tolist()
        labels = self.rows.columns([layout.label]).column(0).to_pylist()
        split, parent = split_of(self.name), self.file.parent
        for row, (name, absent, label) in enumerate(zip(names, empty, labels, strict=True)):
            path = row_member(str(self.file), layout.image, row)
            if absent and name:
                path = os.path.join(parent, name)  # noqa: PTH118 - a row each
                absent = not os.path.isfile(path)  # noqa: PTH113
            own, place = f"{self.name}/{row}", f"{self.file}, row {row}"
            yield Sample(name or own, own, self.name, path, place, label, split, absent)


def _files(root: Path) -> list[Path]:
    if root.is_file():
        if root.suffix.lower() not in _KINDS:
            raise DataError(f"{root}: expected a .parquet or .arrow file, or a folder of them")
        return [root]
    if not root.is_dir():
        raise DataError(f"{root}: no such file or folder")
    if (root / "dataset_dict.json").is_file():
        parts = _listed(root / "dataset_dict.json", "splits")
        return [file for part in parts for file in _files(root / str(part))]
    if (root / "state.json").is_file():  # of save_to_disk; other Arrow files there are its caches
        names = [entry["filename"] for entry in _listed(root / "state.json", "_data_files")]
        return [root / name for name in names]
    hidden = [p for p in root.rglob("*") if p.suffix.lower() in _KINDS]
    found = sorted(p for p in hidden if not any(n.startswith(".") for n in p.relative_to(root).parts))
    if not found:
        raise DataError(f"{root}: holds no .parquet or .arrow files")
    if len({p.suffix.lower() for p in found}) > 1:
        raise DataError(f"{root}: holds both .parquet and .arrow files: name the folder of one kind")
    return found


def _listed(file: Path, key: str) -> list[Any]:
    try:
        listed = json.loads(file.read_text(encoding="utf-8"))[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: can't be read: {error!r}") from error
    if not isinstance(listed, list) or not listed:
        raise DataError(f"{file}: lists nothing under '{key}'")
    return listed


def _kind(kind: pa.DataType) -> str:
    """``bytes``, ``path``, ``bytes+path`` (a struct of them), or nothing that an image can be."""
    import pyarrow.types as t

    if t.is_struct(kind):
        names = {kind.field(i).name for i in range(kind.num_fields)}
        return "" if "bytes" not in names else "bytes+path" if "path" in names else "bytes only"
    if t.is_binary(kind) or t.is_large_binary(kind):
        return "bytes"
    return "path" if t.is_string(kind) or t.is_large_string(kind) else ""


def _features(part: _Part) -> dict[str, Any]:
    """What Hugging Face's libraries say of the columns, from the file's metadata."""
    try:
        told = json.loads((part.rows.schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return told if isinstance(told, dict) else {}


def _layout(part: _Part, target: str | None) -> _Layout:
    features, schema = _features(part), part.rows.schema
    image = _image(part, features)
    label = _label(part, features, image, target)
    light = tuple(n for n in schema.names if n not in (image, label) and _is_light(schema.field(n).type, n))
    told = features.get(label)
    classes = told.get("names") if isinstance(told, dict) and told.get("_type") == "ClassLabel" else None
    return _Layout(image, label, tuple(map(str, classes)) if classes else None, light)


def _is_light(kind: pa.DataType, name: str) -> bool:
    import pyarrow.types as t

    return t.is_boolean(kind) or t.is_integer(kind) or (name in ("split", *GROUP_NAMES) and t.is_string(kind))


def _image(part: _Part, features: dict[str, Any]) -> str:
    names = part.rows.schema.names
    kinds = {n: _kind(part.rows.schema.field(n).type) for n in names}
    for candidates in (
        [n for n, told in features.items() if isinstance(told, dict) and told.get("_type") == "Image"],
        [n for n in names if "bytes" in kinds[n]],
        [n for n in names if kinds[n] and n in (*_IMAGE_NAMES, "path", "file_name", "filename", "file")],
    ):
        usable = [n for n in candidates if kinds.get(n)]
        best = [n for n in _IMAGE_NAMES if n in usable] or usable
        if len(best) > 1 and best[0] not in _IMAGE_NAMES:
            raise DataError(f"{part.file}: several columns hold images: {', '.join(best)}; call one 'image'")
        if best:
            return best[0]
    raise DataError(f"{part.file}: no column holds images; there are: {', '.join(names)}")


def _label(part: _Part, features: dict[str, Any], image: str, target: str | None) -> str:
    names = [n for n in part.rows.schema.names if n != image]
    if target is not None:
        if target not in names:
            raise UnknownName("label column", target, names)
        return target
    classes = [n for n in names if (features.get(n) or {}).get("_type") == "ClassLabel"]
    named = [n for n in LABEL_NAMES if n in names]
    for candidates in (named[:1], classes):
        if len(candidates) == 1:
            return candidates[0]
    raise DataError(f"{part.file}: which column is the label? --target one of: {', '.join(names) or 'none'}")


def _check_alike(part: _Part, first: _Part, layout: _Layout) -> None:
    for name in (layout.image, layout.label, *layout.others):
        if name not in part.rows.schema.names:
            raise DataError(f"{part.file}: has no column '{name}', which {first.file.name} has")
    told, before = _features(part).get(layout.label), _features(first).get(layout.label)
    if told != before:
        raise DataError(f"{part.file}: its label '{layout.label}' has other classes than {first.file.name}'s")
