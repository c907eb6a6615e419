"""Who does the work: modules with ``run(work, say) -> Outcome``, each imported at its turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Rival:
    """``package`` is what it needs beside the harness; ``tuned`` whether glibc is told to keep memory."""

    module: str
    title: str
    package: str | None = None
    tuned: bool = False


OURS = "ours"
RIVALS: Mapping[str, Rival] = {
    OURS: Rival("ours", "ours"),
    "A": Rival("tutorial", "A tutorial loop"),
    "B": Rival("tuned", "B tuned loop", tuned=True),
    "C": Rival("feature_cache", "C features per run", tuned=True),
    "D": Rival("one_pass", "D all cells in one pass", tuned=True),
    "lightning": Rival("lightning_loop", "lightning", package="lightning"),
    "fastai": Rival("fastai_loop", "fastai", package="fastai"),
    "skorch": Rival("skorch_loop", "skorch", package="skorch"),
}
