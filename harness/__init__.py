"""The harness: plan a grid of transfer-learning runs, share what is frozen, record what was seen.

From Python: ``from harness import run, grid, load_run``. They are imported when they are asked for, so that
the package itself costs nothing to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.api import grid, load_run, run

__all__ = ["grid", "load_run", "run"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'harness' has no attribute '{name}'")
    from harness import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
