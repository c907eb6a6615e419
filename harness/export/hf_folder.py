"""The folder of ``--to hf``: networks back in the library that they come from, timm or torchvision."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn

from harness.backbones.adapted import merged_weights
from harness.backbones.staged import Normalize
from harness.backbones.tapped import TappedModel
from harness.export.network import ANSWER, Compute, Network, prepared

FILE, CONFIG = "model.safetensors", "config.json"


def refusal(network: Network) -> str | None:
    """Why neither library could build the network; None where one can."""
    family, _, _ = network.backbone.partition(":")
    spec = network.trained.spec
    if family not in ("timm", "torchvision"):
        return f"{network.backbone} is no network of timm or torchvision, which would have to build it"
    if isinstance(network.trained.model, TappedModel):
        return f"{spec.strategy} has a head on features of all stages, which {family} doesn't know"
    if spec.head != "own":
        return (
            f"head {spec.head} stands in the place of {network.backbone}'s own, and {family} can't build it"
        )
    try:
        _filled(network)
    except (RuntimeError, ValueError, TypeError) as error:
        return f"{family} can't build this {network.backbone}: {str(error).splitlines()[0]}"
    return None


def write(network: Network, folder: Path) -> None:
    """``config.json`` and ``model.safetensors``, adapters merged into the weights beside them."""
    native = _filled(network)
    if network.backbone.startswith("timm:"):
        from timm.models import save_for_hf

        changed = _timm_config(network, native)
        save_for_hf(native, str(folder), model_config=changed, safe_serialization=True)
        return
    save_file({k: v.contiguous() for k, v in native.state_dict().items()}, folder / FILE)
    config = {
        "library_name": "torchvision",
        "architecture": network.backbone.partition(":")[2],
        "arguments": _arguments(network),
        "label_names": list(network.class_names),
        "preprocess": asdict(network.preprocess),
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load(folder: Path) -> Compute:
    """The network as its library builds it from the folder alone, and its normalisation before it."""
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if config.get("library_name") == "torchvision":
        native: Any = torchvision.models.get_model(config["architecture"], **config["arguments"])
        native.load_state_dict(load_file(folder / FILE))
        mean, std = config["preprocess"]["mean"], config["preprocess"]["std"]
    else:
        import timm

        native = timm.create_model(f"local-dir:{folder}", pretrained=True)
        mean, std = native.pretrained_cfg["mean"], native.pretrained_cfg["std"]
    return nn.Sequential(Normalize(mean, std), native).eval()


def usage(network: Network, *, folder: bool) -> str:
    """Python that classifies ``photo.jpg``, from the whole ``folder`` or its tensors alone."""
    family, _, name = network.backbone.partition(":")
    if family == "timm" and folder:
        return f'''import json
import timm
import torch
from PIL import Image

network = timm.create_model("local-dir:.", pretrained=True).eval()
prepare = timm.data.create_transform(**timm.data.resolve_model_data_config(network))
images = prepare(Image.open("photo.jpg").convert("RGB"))[None]
names = json.load(open("{CONFIG}"))["label_names"]
with torch.no_grad():
    shares = network(images).softmax(1)
{ANSWER}'''
    module, build = "torchvision", f'torchvision.models.get_model("{name}", **{_arguments(network)!r})'
    if family == "timm":
        module, build = "timm", f'timm.create_model("{name}", num_classes={len(network.class_names)})'
    p = network.preprocess
    return f'''import {module}
import torch
from safetensors.torch import load_file
{prepared(network)}
network = {build}.eval()
network.load_state_dict(load_file("{FILE}"))
normalize = v2.Normalize({list(p.mean)!r}, {list(p.std)!r})
with torch.no_grad():
    shares = network(normalize(images / 255)).softmax(1)
{ANSWER}'''


def _filled(network: Network) -> Any:
    """The library's own network with the trained tensors. Raises RuntimeError where they don't fit it."""
    model = network.trained.model
    tensors = dict(model.tensors()) | merged_weights(model)
    native = _bare(network)
    native.load_state_dict({key: tensors[name] for name, key in model.native.items()})
    return native.eval()


def _bare(network: Network) -> Any:
    family, _, name = network.backbone.partition(":")
    with torch.random.fork_rng(devices=[]):
        if family == "torchvision":
            return torchvision.models.get_model(name, **_arguments(network))
        import timm

        return timm.create_model(name, num_classes=len(network.class_names))


def _arguments(network: Network) -> dict[str, Any]:
    """What torchvision's builder has to be given for a network of this shape."""
    name, found = network.backbone.partition(":")[2], {"num_classes": len(network.class_names)}
    if name.startswith("vit_"):
        found["image_size"] = network.preprocess.size
    if name in ("googlenet", "inception_v3"):
        found |= {"aux_logits": False, "init_weights": False}
        found["transform_input"] = bool(network.trained.model.pretrained)
    return found


def _timm_config(network: Network, native: Any) -> dict[str, Any]:
    """What of timm's configuration is the run's."""
    p, label_names = network.preprocess, list(network.class_names)
    crop = p.size / p.resize
    if math.floor(p.size / crop) < p.resize:  # which is how timm finds the side to resize to
        crop = math.nextafter(crop, 0)
    data = {
        "input_size": [3, p.size, p.size],
        "mean": list(p.mean),
        "std": list(p.std),
        "crop_pct": crop,
        "crop_mode": "center",
        "interpolation": p.interpolation,
    }
    return {"pretrained_cfg": data, "label_names": label_names}
