"""What goes along with a network: words, from whoever reads the run's record. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Notes:
    """The model card (Markdown), and what the data's card says of labels, licence and use."""

    card: str
    terms: Mapping[str, str]
