"""Where files are kept that can be made again at any time."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """The cache folder: ``HARNESS_CACHE`` where it is set, else the user's own; it may not exist yet."""
    override = os.environ.get("HARNESS_CACHE")
    if override:
        return Path(override).expanduser()
    return platformdirs.user_cache_path("transfer-harness")
