"""How Hypothesis draws here: the same cases every time, so that a change of the code is what a change shows.
Free texts alone hold words of the modules that are loaded, and so depend on what else is collected.

``FUZZ_RANDOM=1`` draws others each time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, seed, settings


def profile(count: int, part: int | None = None) -> Callable[[Any], Any]:
    """``count`` cases, others for each ``part``. Their own deadline is theirs to keep: Hypothesis's counts what the machine does besides."""  # noqa: E501
    fixed = "FUZZ_RANDOM" not in os.environ
    asked = settings(
        max_examples=count,
        derandomize=fixed,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    return asked if part is None or not fixed else lambda test: seed(part)(asked(test))
