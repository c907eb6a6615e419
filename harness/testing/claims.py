"""Claims about a plugin: what doesn't hold becomes an AssertionError in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def require(holds: bool, fault: str) -> None:
    """A claim. Not an ``assert`` statement, which ``python -O`` leaves out and pytest explains in code."""
    if not holds:
        raise AssertionError(fault)


def attempt(what: str, call: Callable[[], T]) -> T:
    """What ``call`` returns; what it raises becomes an AssertionError that says ``what`` was tried."""
    try:
        return call()
    except Exception as error:
        raise AssertionError(f"{what} raised {type(error).__name__}: {error}") from error


def require_words(plugin: object, attribute: str) -> None:
    """One line of text under ``attribute``."""
    text = getattr(plugin, attribute, None)
    require(
        isinstance(text, str) and bool(text.strip()) and "\n" not in text,
        f"{type(plugin).__name__}.{attribute} is {text!r}; it has to be one line of text",
    )
