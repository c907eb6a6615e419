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


def weights_variable(backbone: str) -> str | None:
    """The weights that ``HARNESS_<NAME>_WEIGHTS`` names for a backbone, or None."""
    name = backbone.split(":")[-1].upper().replace("-", "_").replace(".", "_")
    return os.environ.get(WEIGHT_VARIABLE.format(name)) or None
