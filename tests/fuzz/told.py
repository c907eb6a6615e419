"""How many cases were drawn of which kind: each test says its own, the last word is their sum."""

from __future__ import annotations

from collections import Counter

TRIED: Counter[str] = Counter()


def tell(count: int, kind: str, came_of_it: str = "") -> None:
    """Prints what a test has tried, and keeps it for :func:`total`."""
    TRIED[kind] += count
    print(f"fuzz: {count} {kind}{'; ' if came_of_it else ''}{came_of_it}")


def counted(found: Counter[str] | Counter[object]) -> str:
    return ", ".join(f"{n} {what}" for what, n in sorted(found.items(), key=str))


def total() -> str:
    return f"fuzz: {TRIED.total()} cases in all: {counted(TRIED)}"
