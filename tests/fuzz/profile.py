"""How Hypothesis draws here: the same cases every time, so that a change of the code is what a change shows.

``FUZZ_RANDOM=1`` draws others each time.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings


def profile(count: int) -> settings:
    """``count`` cases. Their own deadline is theirs to keep: Hypothesis's counts what the machine does besides."""  # noqa: E501
    return settings(
        max_examples=count,
        derandomize="FUZZ_RANDOM" not in os.environ,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
