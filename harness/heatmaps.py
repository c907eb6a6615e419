"""Heat maps beside a run's record: ``gradcam.json``. No torch, no images, nothing of the data.

A map belongs to a network: it is kept with the digests of the checkpoint and of the predictions, and
what was made of another training counts as absent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import RecordError
from harness.files import write_text
from harness.seal import BLANK, KEY, parse, sealed

FILE = "gradcam.json"
FORMAT = 1
_LEVELS = 255
_LARGEST = 512  # rows or columns of a map; more is no map but a mistake
_BELONGS = ("checkpoint", "predictions")


@dataclass(frozen=True)
class HeatMap:
    """What spoke for class ``target`` (its index) in an image.

    ``levels`` is uint8 ``[h, w]``, 255 where the map has its largest value ``peak``, 0 where nothing
    spoke for the class; it covers what the network saw of the image.
    """

    target: int
    peak: float
    levels: np.ndarray


@dataclass(frozen=True)
class HeatMaps:
    """The maps of one run, by image id: activations of ``stage``, made with ``versions``."""

    run: str
    digests: Mapping[str, str]
    stage: str
    versions: Mapping[str, str]
    maps: Mapping[str, HeatMap]


def quantised(values: np.ndarray, target: int) -> HeatMap:
    """A map of floats ``[h, w]``, 0 and more, in 256 levels of its largest value."""
    peak = float(values.max())
    scaled = values / peak * _LEVELS if peak > 0 else np.zeros_like(values)
    return HeatMap(target, peak, np.rint(scaled).astype(np.uint8))


def belonging(digests: Mapping[str, str]) -> dict[str, str]:
    """Those of a record's digests that say whether a map is of its network."""
    return {key: str(digests.get(key, "")) for key in _BELONGS}


def write_heatmaps(folder: Path, made: HeatMaps) -> Path:
    """Writes ``gradcam.json``, atomically; maps that it holds already, made in the same way, stay."""
    try:
        known = read_heatmaps(folder, made.digests)
    except RecordError:
        known = None  # what can't be read is written anew
    if known and replace(known, maps={}) == replace(made, maps={}):
        made = replace(made, maps={**known.maps, **made.maps})
    head = {
        "format": FORMAT, "method": "Grad-CAM", "run": made.run, "digests": dict(made.digests),
        "stage": made.stage, "versions": dict(made.versions),
    }  # fmt: skip
    rows = {
        name: {"class": m.target, "peak": float(f"{m.peak:.6g}"), "levels": m.levels.tolist()}
        for name, m in sorted(made.maps.items())
    }
    lines = [f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in head.items()]
    maps = ",\n".join(f"{json.dumps(k, ensure_ascii=False)}: {json.dumps(v)}" for k, v in rows.items())
    text = "{\n" + ",\n".join(lines) + ',\n"maps": {\n' + maps + f'\n}},\n"{KEY}": "{BLANK}"}}\n'
    write_text(folder / FILE, sealed(text))
    return folder / FILE


def read_heatmaps(folder: Path, digests: Mapping[str, str]) -> HeatMaps | None:
    """The maps in a run's folder; None where there are none of the network with these ``digests``.

    Raises RecordError naming the file when it can't be read.
    """
    file = folder / FILE
    if not file.exists():
        return None
    try:
        found = parse(file.read_bytes())
        if found["format"] != FORMAT:
            raise ValueError(f"format {found['format']} is not known")
        if found["digests"] != belonging(digests):
            return None
        maps = {str(name): _map(entry) for name, entry in found["maps"].items()}
        return HeatMaps(found["run"], found["digests"], found["stage"], found["versions"], maps)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise RecordError(f"can't read '{file}': {error!r}; harness explain makes it again") from error


def _map(entry: Mapping[str, Any]) -> HeatMap:
    levels = np.array(entry["levels"], dtype=np.int64)
    if levels.ndim != 2 or not 0 < min(levels.shape) <= max(levels.shape) <= _LARGEST:
        raise ValueError(f"a map of shape {levels.shape}")
    if levels.min() < 0 or levels.max() > _LEVELS:
        raise ValueError(f"a level outside 0..{_LEVELS}")
    return HeatMap(int(entry["class"]), float(entry["peak"]), levels.astype(np.uint8))
