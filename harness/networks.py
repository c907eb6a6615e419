"""The networks that cells start from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from harness.backbones.staged import StagedModel, tensor_digest
from harness.backbones.transforms import transformed
from harness.contracts import ConvLora, Recipe, Taps
from harness.errors import UsageError
from harness.plugins import load_backbone
from harness.runtime import seed_generators
from harness.seeding import derive_seed

_CPU = torch.device("cpu")  # where networks are built


class NetworkKey(NamedTuple):
    """Which network, but for the seed that its random parts are drawn by."""

    backbone: str
    weights: str
    head: str
    init: str = "pretrained"
    taps: Taps | None = None
    adapters: ConvLora | None = None

    def of(self, recipe: Recipe) -> NetworkKey:
        """The network that ``recipe`` starts from."""
        return self._replace(init=recipe.init, taps=recipe.taps, adapters=recipe.adapters)


@dataclass
class Networks:
    """Builds networks; the last one built is kept, so that planning and training share it."""

    num_classes: int
    device: torch.device
    _last: tuple[tuple[NetworkKey, int], StagedModel] | None = field(default=None, repr=False)
    _digest: tuple[StagedModel, str] | None = field(default=None, repr=False)

    def get(self, key: NetworkKey, seed: int) -> StagedModel:
        """The network as ``seed`` initialises it; with ``init`` ``random`` the weights only lend their
        preprocessing. Callers must not train it, only copies of it.
        """
        if self._last is None or self._last[0] != (key, seed):
            self._last = self._digest = None  # two large networks needn't be in memory at once
            seed_generators(derive_seed(seed, "init"), _CPU)
            model = load_backbone(key.backbone).build(key.weights, self.num_classes, key.head)
            if key.init == "random" and key.weights != "none":
                model = self._unpretrained(model, key.backbone, key.head, seed)
            model = transformed(model, key.taps, key.adapters, self.num_classes)
            self._last = ((key, seed), model.to(self.device).to(memory_format=torch.channels_last))
        return self._last[1]

    def digest(self, model: StagedModel) -> str:
        """Of all tensors of a network that ``get`` gave; of the last one it is remembered."""
        if self._digest is None or self._digest[0] is not model:
            self._digest = (model, tensor_digest(model.tensors()))
        return self._digest[1]

    def _unpretrained(self, pretrained: StagedModel, backbone: str, head: str, seed: int) -> StagedModel:
        seed_generators(derive_seed(seed, "init"), _CPU)
        model = load_backbone(backbone).build("none", self.num_classes, head)
        if model.preprocess.size != pretrained.preprocess.size:
            raise UsageError(
                f"these weights of {backbone} take {pretrained.preprocess.size} px and the network without "
                f"weights {model.preprocess.size} px: train scratch with --weights none, in its own grid"
            )
        model.preprocess, model.normalize = pretrained.preprocess, pretrained.normalize
        return model
