"""Weight files: read without executing anything, checked against the network key by key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from harness.contracts import Preprocess
from harness.errors import WeightsError

# Counters of batches seen: older files lack them and no forward pass reads them in eval mode.
_OPTIONAL = ("num_batches_tracked",)


@dataclass(frozen=True)
class WeightSource:
    """A state dict in the network's own key names, and where it came from."""

    tensors: Mapping[str, torch.Tensor]
    name: str
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_weight_file(path: Path) -> WeightSource:
    """The tensors of a ``.safetensors`` or ``.pth``/``.pt`` file; pickled code is never run.

    Half-precision values are widened to float32. Raises WeightsError naming the file.
    """
    if not path.is_file():
        raise WeightsError(f"weight file '{path}' doesn't exist")
    try:
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, framework="pt") as handle:
                tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
                metadata = dict(handle.metadata() or {})
        else:
            tensors, metadata = torch.load(path, map_location="cpu", weights_only=True), {}
            if isinstance(tensors, Mapping) and isinstance(tensors.get("state_dict"), Mapping):
                tensors = tensors["state_dict"]
    except Exception as error:
        raise WeightsError(f"can't read weight file '{path}': {_first_line(error)}") from error
    if not isinstance(tensors, Mapping) or not all(isinstance(t, torch.Tensor) for t in tensors.values()):
        raise WeightsError(f"weight file '{path}' holds no state dict of tensors")
    widened = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
    return WeightSource(widened, path.name, metadata)


def load_into(native: nn.Module, source: WeightSource, optional: tuple[str, ...]) -> frozenset[str]:
    """Copies ``source`` into ``native``; returns the keys it covered.

    Keys that start with one of ``optional`` (the classifier and the head) may be absent: they stay
    as they were drawn. Anything else absent, unexpected or of another shape is a WeightsError.
    """
    own = native.state_dict()
    given = dict(source.tensors)
    unexpected = [k for k in given if k not in own]
    absent = [k for k in own if k not in given and not k.endswith(_OPTIONAL)]
    required = [k for k in absent if not k.startswith(optional)]
    shapes = [k for k in given if k in own and given[k].shape != own[k].shape]
    faults = [
        text
        for text in (
            _keys("it lacks", required),
            _keys("it has unknown", unexpected),
            _keys("other shapes in", shapes),
        )
        if text
    ]
    if faults:
        raise WeightsError(f"weights '{source.name}' don't fit {type(native).__name__}: {'; '.join(faults)}")
    partly = {k.rsplit(".", 1)[0] for k in absent} & {k.rsplit(".", 1)[0] for k in given}
    if partly:
        raise WeightsError(f"weights '{source.name}' cover only a part of layer '{min(partly)}'")
    broken = [k for k, v in given.items() if v.is_floating_point() and not torch.isfinite(v).all()]
    if broken:
        raise WeightsError(f"weights '{source.name}' hold values that aren't finite in '{broken[0]}'")
    try:
        native.load_state_dict(given, strict=False)
    except (RuntimeError, ValueError) as error:
        raise WeightsError(f"weights '{source.name}' can't be loaded: {_first_line(error)}") from error
    return frozenset(given)


def preprocess_from(metadata: Mapping[str, str], default: Preprocess, name: str) -> Preprocess:
    """``default`` with what the weight file's metadata says: mean, std, input_size, crop_pct, ..."""
    try:
        changed: dict[str, object] = {}
        for key in ("mean", "std"):
            if key in metadata:
                r, g, b = (float(v) for v in metadata[key].split(","))
                changed[key] = (r, g, b)
        if "input_size" in metadata:
            size = int(metadata["input_size"])
            ratio = float(metadata.get("crop_pct", default.size / default.resize))
            changed |= {"size": size, "resize": int(size / ratio)}
        if "interpolation" in metadata:
            if metadata["interpolation"] not in ("bilinear", "bicubic"):
                raise ValueError(f"interpolation '{metadata['interpolation']}'")
            changed["interpolation"] = metadata["interpolation"]
        return replace(default, **changed)  # type: ignore[arg-type]
    except ValueError as error:
        raise WeightsError(f"weights '{name}' have malformed metadata: {error}") from error


def _keys(what: str, keys: list[str]) -> str:
    if not keys:
        return ""
    shown = ", ".join(sorted(keys)[:3]) + (f", ... ({len(keys)} keys)" if len(keys) > 3 else "")
    return f"{what} {shown}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
