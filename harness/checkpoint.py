"""Tensors on disk: what a run goes on from, and what it leaves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import torch

from harness.backbones.staged import tensor_digest
from harness.cell import Cell, Snapshot
from harness.errors import RecordError
from harness.files import to_json, write_tensors
from harness.spec import FORMAT
from harness.store import RESUME, RunFolder

_PARTS = ("tensor/", "optimizer/", "best/")


def write_resume(folder: RunFolder, snapshot: Snapshot, conditions: str) -> None:
    """Replaces the folder's resume file. ``conditions`` names what bit-equality depends on."""
    parts = (snapshot.tensors, snapshot.optimizer, snapshot.best)
    tensors = {
        f"{prefix}{name}": tensor.detach().cpu()
        for prefix, part in zip(_PARTS, parts, strict=True)
        for name, tensor in part.items()
    }
    metadata = {
        "conditions": conditions,
        "epoch": str(snapshot.epoch),
        "best_epoch": str(snapshot.best_epoch),
        "history": json.dumps([json.loads(to_json(row)) for row in snapshot.history]),
        "witness": json.dumps(snapshot.witness),
    }
    folder.write_resume(tensors, metadata | {"digest": _resume_digest(tensors, metadata)})


def read_resume(folder: RunFolder, device: torch.device, conditions: str) -> Snapshot | None:
    """What an earlier process left, or None where there is nothing to go on from.

    Raises RecordError for a file that can't be read, isn't bit for bit what was written, or was written
    under other ``conditions``: to go on from it would give bits that neither condition gives.
    """
    found = folder.read_resume()
    if found is None:
        return None
    tensors, metadata = found
    if metadata.pop("digest", None) != _resume_digest(tensors, metadata):
        raise RecordError(f"'{folder.path / RESUME}' is damaged: its digest differs")
    if metadata.get("conditions") != conditions:
        raise RecordError(f"it was begun with {metadata.get('conditions')} and this is {conditions}")
    trained, optimizer, best = (
        {k.removeprefix(prefix): v.to(device) for k, v in tensors.items() if k.startswith(prefix)}
        for prefix in _PARTS
    )
    try:
        return Snapshot(
            epoch=int(metadata["epoch"]),
            tensors=trained,
            optimizer=optimizer,
            history=tuple(json.loads(metadata["history"])),
            best_epoch=int(metadata["best_epoch"]),
            best=best,
            witness=json.loads(metadata["witness"]),
        )
    except (KeyError, ValueError) as error:
        raise RecordError(f"'{folder.path / RESUME}' has no valid metadata") from error


def _resume_digest(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> str:
    text = json.dumps(metadata, sort_keys=True)
    return hashlib.sha256(f"{tensor_digest(tensors.items())} {text}".encode()).hexdigest()


def write_checkpoint(
    folder: RunFolder, cell: Cell, before: Mapping[str, torch.Tensor], base: str
) -> dict[str, str]:
    """Writes the tensors that differ from ``before``, whose digest is ``base``.

    Returns the digests of the base they belong to and of themselves, which its metadata hold too.
    """
    now = {n: t.detach().cpu().contiguous() for n, t in cell.model.tensors()}
    changed = {n: t for n, t in now.items() if not torch.equal(t, before[n].detach().cpu())}
    digests = {"base": base, "checkpoint": tensor_digest(changed.items())}
    # One key: with several, safetensors writes them in an order that differs from run to run.
    metadata = {"harness": json.dumps({"format": FORMAT, "run": folder.name, **digests})}
    write_tensors(folder.checkpoint, changed, metadata)
    return digests


def read_checkpoint(folder: RunFolder, digests: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """The tensors that ``write_checkpoint`` wrote, on the CPU.

    Raises RecordError, naming the file, where it is absent, can't be read or isn't the one whose
    ``digests`` (``base``, ``checkpoint``) the run recorded.
    """
    from safetensors import SafetensorError, safe_open

    file = folder.checkpoint
    if not file.exists():
        raise RecordError(
            f"'{file}' is gone: remove the run (harness runs rm {folder.path}) and train it again"
        )
    try:
        with safe_open(file, framework="pt") as handle:
            tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
            base = json.loads((handle.metadata() or {})["harness"])["base"]
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(f"can't read '{file}': {' '.join(str(error).split())}") from error
    if base != digests["base"] or tensor_digest(tensors.items()) != digests["checkpoint"]:
        raise RecordError(
            f"'{file}' isn't what its run recorded (its digest differs): remove the run (harness runs rm "
            f"{folder.path}) and train it again"
        )
    return tensors
