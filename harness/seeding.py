"""Seeds: every random choice has a stream of its own, named by its purpose.

One more random draw somewhere shifts no other stream, and no result depends on the order
in which cells run (the scheme is DomainBed's ``seed_hash``).
"""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(base: int, *purpose: object) -> int:
    """A 63-bit seed for ``purpose``, the same on every machine and Python version."""
    text = "\x1f".join([str(base), *map(str, purpose)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(base: int, *purpose: object) -> np.random.Generator:
    """A NumPy generator (PCG64) for ``purpose``."""
    return np.random.Generator(np.random.PCG64(derive_seed(base, *purpose)))


def coins(base: int, *purpose: object, ids: tuple[str, ...]) -> np.ndarray:
    """One fair coin per id, bool ``[len(ids)]``; an id's coin doesn't depend on the other ids."""
    return np.fromiter((derive_seed(base, *purpose, i) & 1 for i in ids), dtype=bool, count=len(ids))
