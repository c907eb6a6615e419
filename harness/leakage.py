"""Which test images training has seen too: ``leakage.json`` beside a run's record. No torch.

Every run writes what bytes and groups tell; ``harness data audit --runs`` adds near copies, which take a
look at the images. What was found belongs to data and a split, whose digests it is kept with; beside
another record it counts as absent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.contracts import SampleTable
from harness.errors import RecordError
from harness.files import to_json, write_text
from harness.seal import BLANK, KEY, parse, sealed

FILE = "leakage.json"
FORMAT = 1
_BELONGS = ("data", "split")


@dataclass(frozen=True)
class NearCopy:
    """A training image ``id`` that shows the same picture as a test image, in other bytes.

    ``distance`` counts bits of the perceptual hash, ``correlation`` (-1..1) is that of the details;
    ``mirrored`` says that one is the other's mirror image.
    """

    id: str
    distance: int
    correlation: float
    mirrored: bool


@dataclass(frozen=True)
class Leakage:
    """Test images, by id, that training has seen.

    ``exact`` maps to the training images of the same bytes; ``near`` to near copies, ``None`` where
    nobody looked for them, by ``method``. ``groups`` are those whose group (person) has training images,
    ``None`` where the data hold no groups.
    """

    digests: Mapping[str, str]
    exact: Mapping[str, tuple[str, ...]]
    groups: tuple[str, ...] | None
    near: Mapping[str, tuple[NearCopy, ...]] | None = None
    method: str = ""


def belonging(digests: Mapping[str, str]) -> dict[str, str]:
    """Those of a record's digests that say whether a finding is of its data and split."""
    return {key: str(digests.get(key, "")) for key in _BELONGS}


def find_leakage(
    table: SampleTable,
    contents: Sequence[str],
    train: np.ndarray,
    test: np.ndarray,
    digests: Mapping[str, str],
) -> Leakage:
    """What needs no look at the images: equal digests ``contents`` of files, and shared groups.

    ``train`` and ``test`` are rows of ``table`` (int ``[m]``).
    """
    of_content: dict[str, list[str]] = {}
    for row in train.tolist():
        of_content.setdefault(contents[row], []).append(table.ids[row])
    exact = {
        table.ids[row]: tuple(of_content[contents[row]])
        for row in test.tolist()
        if contents[row] in of_content
    }
    shared = None
    if table.groups is not None:
        trained = {table.groups[row] for row in train.tolist()}
        shared = tuple(table.ids[row] for row in test.tolist() if table.groups[row] in trained)
    return Leakage(dict(digests), exact, shared)


def write_leakage(folder: Path, found: Leakage) -> Path:
    """Writes ``leakage.json``, atomically."""
    near = None
    if found.near is not None:
        images = {k: [asdict(copy) for copy in v] for k, v in sorted(found.near.items())}
        near = {"method": found.method, "images": images}
    content = {
        "format": FORMAT,
        "digests": dict(found.digests),
        "exact": {k: list(v) for k, v in sorted(found.exact.items())},
        "groups": None if found.groups is None else {"images": sorted(found.groups)},
        "near": near,
        KEY: BLANK,
    }
    write_text(folder / FILE, sealed(to_json(content, indent=None)))
    return folder / FILE


def read_leakage(folder: Path, digests: Mapping[str, str]) -> Leakage | None:
    """What is in a run's folder; None where there is nothing of the data and split with these ``digests``.

    Raises RecordError naming the file when it can't be read.
    """
    file = folder / FILE
    if not file.exists():
        return None
    try:
        root = parse(file.read_bytes())
        if root["format"] != FORMAT:
            raise ValueError(f"format {root['format']} is not known")
        if root["digests"] != belonging(digests):
            return None
        groups, near = root["groups"], root["near"]
        return Leakage(
            digests=root["digests"],
            exact={str(k): tuple(map(str, v)) for k, v in root["exact"].items()},
            groups=None if groups is None else tuple(map(str, groups["images"])),
            near=None if near is None else {str(k): tuple(map(_copy, v)) for k, v in near["images"].items()},
            method="" if near is None else str(near["method"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(
            f"can't read '{file}': {error!r}; harness data audit --runs makes it again"
        ) from error


def _copy(entry: Mapping[str, Any]) -> NearCopy:
    return NearCopy(
        id=str(entry["id"]),
        distance=int(entry["distance"]),
        correlation=float(entry["correlation"]),
        mirrored=bool(entry["mirrored"]),
    )
