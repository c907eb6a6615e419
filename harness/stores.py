"""Room for the activations of one cut while they are computed: in memory, in a file, or to be kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from harness import kept
from harness.placement import Placement, show_bytes

_WORDS = {"device": "the device's memory", "memory": "memory", "file": "a mapped file", "kept": "a kept file"}


@dataclass
class Store:
    """Rows of one cut, by view, all in one place: ``device``, ``memory``, ``file`` or ``kept``."""

    rows: dict[str, torch.Tensor]
    where: str
    drafts: dict[str, kept.Draft] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """``301 MiB in memory``."""
        return f"{show_bytes(sum(rows.nbytes for rows in self.rows.values()))} in {_WORDS[self.where]}"

    def seal(self, keys: Mapping[str, kept.FeatureKey], about: str, say: Callable[[str], object]) -> None:
        """Makes entries of what is to be kept; where the disk refuses, the rows serve this run alone."""
        for view, draft in self.drafts.items():
            try:
                draft.seal(keys[view], f"{about}, {view}")
            except OSError as error:
                say(f"can't keep activations: {error.strerror}")
                draft.drop()

    def drop(self) -> None:
        """Forgets what was to be kept and isn't sealed yet."""
        for draft in self.drafts.values():
            draft.drop()


def make_store(
    room: Placement,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    views: Sequence[str],
    keep: bool,
    say: Callable[[str], object],
) -> Store | None:
    """Room for rows of ``shape``, one set a view; None where there is none anywhere."""
    if keep:
        drafts: dict[str, kept.Draft] = {}
        try:
            for view in views:
                drafts[view] = kept.draft(shape, dtype)
            return Store({view: draft.rows for view, draft in drafts.items()}, "kept", drafts)
        except OSError as error:
            for draft in drafts.values():
                draft.drop()
            say(f"can't keep activations: {error.strerror}")
    rows, where = room.allocate(shape, dtype, len(views))
    return Store(dict(zip(views, rows, strict=True)), where) if rows else None
