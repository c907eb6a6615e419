"""A run's network to a folder of files, checked before anybody sees it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.data.decode import load_images
from harness.errors import HarnessError, UnknownName, UsageError
from harness.export.graphs import Onnx, TorchExport
from harness.export.network import ABOUT, Format, Network
from harness.export.notes import Notes
from harness.export.parity import Parity, as_facts, compare
from harness.export.tensors import Hub, SafeTensors
from harness.runtime import package_version
from harness.seal import file_digest
from harness.trained import TrainedRun

FORMATS: Mapping[str, Format] = {f.name: f for f in (SafeTensors(), Onnx(), TorchExport(), Hub())}
TOLERANCE = 1e-4  # of the largest logit: some hundred roundings of float32
CARD = "README.md"
_MARK = "harness_export"  # a key of ABOUT, by which an earlier export is known


@dataclass(frozen=True)
class Exported:
    """A folder that was written, its files, and how its network compares with the trained one."""

    folder: Path
    files: tuple[Path, ...]
    parity: Parity


def check_export(form: str, out: Path, *, force: bool) -> None:
    """Raises UsageError for what is known beforehand: the format, its extra, the folder."""
    if form not in FORMATS:
        raise UnknownName("format to export to", form, FORMATS)
    absent = [module for module in FORMATS[form].needs if find_spec(module) is None]
    if absent:
        raise UsageError(f"--to {form} needs {absent[0]}: pip install 'transfer-harness[export]'")
    if not out.exists():
        return
    if not force:
        raise UsageError(f"'{out}' is there already: --force replaces it, --out names another")
    if not out.is_dir() or (any(out.iterdir()) and not _is_export(out)):
        raise UsageError(f"'{out}' is no export of the harness: --force doesn't replace it")


def export_run(
    trained: TrainedRun,
    form: str,
    out: Path,
    notes: Notes,
    *,
    images: Sequence[str],
    recorded: Sequence[int] | None,
    tolerance: float = TOLERANCE,
    force: bool = False,
) -> Exported:
    """Writes the network of ``trained``, which is on the CPU, into the folder ``out``, all of it or nothing.

    The files are read back first and must give the trained network's logits for the image files ``images``,
    equal bit for bit where the format keeps tensors, else within ``tolerance`` times the largest logit;
    ``recorded`` are the classes that the run's test gave the images. Raises UsageError for what
    :func:`check_export` finds and for a network that the format can't hold, HarnessError where the check
    fails.
    """
    check_export(form, out, force=force)
    network, kind = Network(trained), FORMATS[form]
    if reason := kind.refusal(network):
        raise UsageError(f"run '{trained.folder.name}' can't be exported to {form}: {reason}")
    pixels = load_images(images, network.preprocess, workers=1)
    tolerance = 0.0 if kind.exact else tolerance
    facts = _facts(network, form, notes)
    with _replacing(out) as folder:
        try:
            kind.write(network, folder, {ABOUT: json.dumps(facts)})
            parity = compare(network, kind.load(network, folder), pixels, recorded)
        except (HarnessError, OSError):
            raise
        except Exception as error:  # exporters meet operations that they don't know
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise HarnessError(f"{network.backbone} can't be exported to {form}: {reason}") from error
        if not parity.within(tolerance):
            raise HarnessError(
                f"what {form} computes isn't what run '{trained.folder.name}' learnt: logits differ by up to "
                f"{parity.difference:.2g}, {tolerance * parity.scale:.2g} is allowed; nothing was written"
            )
        facts["parity"] = as_facts(parity, tolerance)
        facts["files"] = {p.name: file_digest(p) for p in sorted(folder.iterdir())}
        usage = f"## How to use\n\n{_WORDS[form]}\n\n```python\n{kind.usage(network)}\n```\n"
        (folder / CARD).write_text(f"{notes.card.rstrip()}\n\n{usage}", encoding="utf-8")
        (folder / ABOUT).write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return Exported(out, tuple(sorted(out.iterdir())), parity)


_INSIDE = (
    "The network takes uint8 RGB images `[n, 3, size, size]` of any number and normalises them itself; what "
    "comes before, resizing and cropping, is below and in `export.json`."
)
_WORDS = {
    "onnx": _INSIDE,
    "torch-export": _INSIDE,
    "safetensors": "Every tensor of the trained network, under the name it has in the network's own library "
    "where it has one; adapters stand beside their layer's tensors (`lora_a`, `lora_b`).",
    "hf": "A folder that the network's own library loads; images are normalised before it.",
}


def _facts(network: Network, form: str, notes: Notes) -> dict[str, Any]:
    packages = ("torch", "torchvision", "timm", "safetensors", "onnx", "onnxruntime", "onnxscript")
    versions = {name: package_version(name) for name in ("transfer-harness", *packages)}
    return {
        _MARK: 1,
        "to": form,
        **network.facts(),
        "data": dict(notes.terms),
        "written_with": {name: found for name, found in versions.items() if found},
    }


def _is_export(folder: Path) -> bool:
    try:
        return _MARK in json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


@contextlib.contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` that takes its place when all went well, and is gone otherwise."""
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = out.with_name(f".{out.name}.{os.getpid()}")
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    folder.mkdir()
    try:
        yield folder
        for file in folder.iterdir():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        if out.exists():
            out.rename(old)
        folder.rename(out)
    finally:
        if old.exists() and not out.exists():
            old.rename(out)
        for left in (folder, old):
            shutil.rmtree(left, ignore_errors=True)
