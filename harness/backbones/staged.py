"""A network as an ordered list of named stages whose forward pass is the fold over them."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import nn

from harness.contracts import ParameterInfo, Preprocess, Role, StageInfo

NORM_LAYERS = (
    nn.modules.batchnorm._BatchNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.LocalResponseNorm,
    nn.RMSNorm,
)


class Stage(NamedTuple):
    """A named part of a network. ``module`` maps the previous stage's output to the next one's input."""

    name: str
    module: nn.Module
    role: Role


class Normalize(nn.Module):
    """uint8 images ``[n, 3, s, s]`` to float32 ``(x / 255 - mean) / std``, one value each for R, G, B."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        shape = (1, 3, 1, 1)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(shape), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.to(torch.float32).div(255).sub(self.mean).div(self.std)


class StagedModel(nn.Module):
    """A backbone with its head.

    Tensors are named ``STAGE.rest``. ``pretrained`` holds the names of the tensors that weights
    covered; all others stayed at their random initialisation. A model with ``cuttable`` false runs
    as a whole (``whole``): its stages say who owns which parameter, but no prefix can be taken.
    ``adapters`` maps each tensor that was added to a layer to the layer's own weight. ``native`` maps tensors
    to their names in the network that they come from; what has none there (another head) is left out.
    """

    def __init__(
        self,
        stages: Iterable[Stage],
        preprocess: Preprocess,
        pretrained: frozenset[str] = frozenset(),
        whole: nn.Module | None = None,
    ) -> None:
        super().__init__()
        stages = tuple(stages)
        names = [s.name for s in stages]
        if len(set(names)) < len(names):
            raise ValueError(f"two stages have one name: {', '.join(names)}")
        self.parts = nn.ModuleDict(OrderedDict((s.name, s.module) for s in stages))
        self.roles: Mapping[str, Role] = {s.name: s.role for s in stages}
        self.preprocess = preprocess
        self.normalize = Normalize(preprocess.mean, preprocess.std)
        self.pretrained = pretrained
        self.adapters: Mapping[str, str] = {}
        self.native: Mapping[str, str] = {}
        # Not a submodule: its parameters are already owned by the stages.
        # Its own flag stays at eval: no train() reaches it, and some networks return more in train mode.
        self._whole = (whole and whole.eval(),)

    @property
    def cuttable(self) -> bool:
        return self._whole[0] is None

    @property
    def stage_names(self) -> tuple[str, ...]:
        return tuple(self.parts)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits float ``[n, classes]`` of uint8 images ``[n, 3, size, size]``."""
        return self.section(0, len(self.parts))(images)

    def section(self, start: int, stop: int) -> nn.Sequential:
        """Stages ``start:stop`` as one module sharing this model's parameters; 0 takes uint8 images."""
        parts: list[tuple[str, nn.Module]] = [("normalize", self.normalize)] if start == 0 else []
        whole = self._whole[0]
        if whole is not None:
            if (start, stop) != (0, len(self.parts)):
                raise ValueError("this model can't be cut")
            return nn.Sequential(OrderedDict([*parts, ("whole", whole)]))
        return nn.Sequential(OrderedDict(parts + list(self.parts.items())[start:stop]))

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Parameters and persistent buffers by name, each tensor once."""
        seen: set[int] = set()
        for name, tensor in self.parts.state_dict(keep_vars=True).items():
            if id(tensor) not in seen:
                seen.add(id(tensor))
                yield name, tensor

    def describe(self) -> tuple[StageInfo, ...]:
        """The stages as strategies see them."""
        owners = {id(p): m for m in self.parts.modules() for p in m.parameters(recurse=False)}
        found: dict[str, list[ParameterInfo]] = {name: [] for name in self.parts}
        for name, parameter in self.parts.named_parameters():
            stage = name.split(".", 1)[0]
            owner = owners[id(parameter)]
            found[stage].append(
                ParameterInfo(
                    name=name,
                    stage=stage,
                    role=self.roles[stage],
                    kind=type(owner).__name__,
                    shape=tuple(parameter.shape),
                    norm=isinstance(owner, NORM_LAYERS),
                    # Adapters begin as no change: what is pretrained stays so, what is random too.
                    pretrained=self.adapters.get(name, name) in self.pretrained,
                    adapter=name in self.adapters,
                )
            )
        return tuple(StageInfo(n, self.roles[n], tuple(found[n])) for n in self.parts)


def tensor_digest(tensors: Iterable[tuple[str, torch.Tensor]]) -> str:
    """Hex digest of named tensors: names, shapes, dtypes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors, key=lambda item: item[0]):
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name}|{tuple(value.shape)}|{value.dtype}|".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)  # no copy: VGG16's fc6 has 392 MiB
    return digest.hexdigest()
