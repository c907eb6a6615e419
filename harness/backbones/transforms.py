"""A network as a recipe wants it."""

from __future__ import annotations

from harness.backbones.adapted import add_adapters
from harness.backbones.staged import StagedModel
from harness.backbones.tapped import TappedModel
from harness.contracts import ConvLora, Taps


def transformed(
    model: StagedModel, taps: Taps | None, adapters: ConvLora | None, num_classes: int
) -> StagedModel:
    """``model``, which may be changed, with a head on taps and with adapters where they are asked for.

    What is new is drawn from torch's default generator.
    """
    if taps is not None:
        model = TappedModel(model, taps, num_classes)
    return model if adapters is None else add_adapters(model, adapters)
