"""What is exported: a trained network, computing in float32, with all that a user of it must know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from harness.contracts import Preprocess
from harness.features import BATCH, run_prefix
from harness.trained import TrainedRun

INPUT, OUTPUT = "images", "logits"
ABOUT = "export.json"


@dataclass(frozen=True, eq=False)
class Network:
    """A trained network on the CPU."""

    trained: TrainedRun

    @property
    def module(self) -> nn.Module:
        """uint8 RGB images ``[n, 3, size, size]`` to float32 logits ``[n, classes]``; it normalises them."""
        model = self.trained.model
        return model.section(0, len(model.stage_names)).eval()

    @property
    def preprocess(self) -> Preprocess:
        return self.trained.model.preprocess

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.trained.class_names

    @property
    def backbone(self) -> str:
        return self.trained.spec.backbone

    def names(self) -> dict[str, str]:
        """Each tensor's name in a file: the one that the library's own network gives it, else its stage's.

        A name such as ``features.0.weight`` is what that library loads; an adapter goes by the name of the
        layer that it stands beside.
        """
        model, names = self.trained.model, {}
        for name, _ in model.tensors():
            layer = model.adapters.get(name)
            if layer is None:
                names[name] = model.native.get(name, name)
            else:
                beside = model.native.get(layer, layer).removesuffix("weight")
                names[name] = beside + name.removeprefix(layer.removesuffix("weight"))
        if len(set(names.values())) < len(names):  # a stage's name that is another tensor's elsewhere
            return {name: name for name in names}
        return names

    def tensors(self) -> dict[str, torch.Tensor]:
        """Every tensor, by its name in a file."""
        names = self.names()
        return {names[name]: tensor.detach().contiguous() for name, tensor in self.trained.model.tensors()}

    def example(self) -> torch.Tensor:
        """Two images to trace with; a batch of one would be taken for a constant."""
        size = self.preprocess.size
        draw = torch.Generator().manual_seed(0)
        return torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, generator=draw)

    def facts(self) -> dict[str, Any]:
        """What the files say of themselves, as JSON's types."""
        record = self.trained.record
        classes, size = len(self.class_names), self.preprocess.size
        return {
            "run": str(record["run"]),
            "backbone": self.backbone,
            "strategy": self.trained.spec.strategy,
            "class_names": list(self.class_names),
            "input": {
                "name": INPUT,
                "dtype": "uint8",
                "shape": ["batch", 3, size, size],
                "channels": "RGB",
                "preprocess": asdict(self.preprocess) | {"mean_and_std_applied": "by the network"},
            },
            "output": {"name": OUTPUT, "dtype": "float32", "shape": ["batch", classes]},
            "digests": dict(record["digests"]),
            "environment": {
                k: record["environment"].get(k) for k in ("harness", "torch", "torchvision", "timm")
            },
        }


Compute = Callable[[torch.Tensor], torch.Tensor]  # uint8 images to logits, on the CPU


class Format(Protocol):
    """A way to write a network down, and to read it back without the run."""

    name: str
    exact: bool  # whether the logits have to be equal bit for bit
    needs: tuple[str, ...]  # modules that the extra 'export' brings

    def refusal(self, network: Network) -> str | None:
        """Why this network can't be written so; None where it can."""
        ...

    def write(self, network: Network, folder: Path, facts: Mapping[str, str]) -> None:
        """Writes into ``folder``; ``facts`` are texts that the file itself carries where it can."""
        ...

    def load(self, network: Network, folder: Path) -> Compute:
        """What the files compute, read back from ``folder``; of ``network`` only its shape is used."""
        ...

    def usage(self, network: Network) -> str:
        """Python that classifies ``photo.jpg``, to be run in the folder, without the harness."""
        ...


def in_own_shape(module: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """What ``module`` gives for ``images``, in batches of the one shape that runs are tested in."""
    return torch.cat([run_prefix(module, part, None)[: len(part)] for part in images.split(BATCH)]).float()


def prepared(network: Network) -> str:
    """Python that makes ``images`` of ``photo.jpg``, as the network takes them."""
    p = network.preprocess
    return f"""import json
from PIL import Image
from torchvision.transforms import v2

prepare = v2.Compose([
    v2.Resize({p.resize}, v2.InterpolationMode.{p.interpolation.upper()}),
    v2.CenterCrop({p.size}),
    v2.PILToTensor(),
])
images = prepare(Image.open("photo.jpg").convert("RGB"))[None]  # uint8 [1, 3, {p.size}, {p.size}]
names = json.load(open("{ABOUT}"))["class_names"]
"""


ANSWER = "print(dict(zip(names, shares[0].tolist())))"
