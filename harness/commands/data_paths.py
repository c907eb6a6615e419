"""Where data and weights are looked for when no path is given."""

from __future__ import annotations

import os
from pathlib import Path

# Datasets that read the same files share one variable.
DATA_VARIABLES = {"celeba": "HARNESS_CELEBA_ROOT", "celeba30k": "HARNESS_CELEBA_ROOT"}
WEIGHT_VARIABLE = "HARNESS_{}_WEIGHTS"


def data_path(name: str, given: str | None) -> Path | None:
    """The path of a dataset: as given, else from its environment variable, else None."""
    text = given or os.environ.get(DATA_VARIABLES.get(name, ""), "")
    return Path(text).expanduser() if text else None


def weights_variable(backbone: str) -> tuple[str, str | None]:
    """The variable that names a backbone's weight file, ``HARNESS_VGG16_WEIGHTS``, and its value.

    torchvision's networks go by their plain name, others with their family's:
    ``HARNESS_TIMM_VGG16_WEIGHTS``.
    """
    name = backbone.removeprefix("torchvision:").upper()
    variable = WEIGHT_VARIABLE.format("".join(c if c.isalnum() else "_" for c in name))
    return variable, os.environ.get(variable) or None
