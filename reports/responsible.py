"""What the labels are, what a model trained on them is not for, what the licence allows: from a data card.

A card may leave things open; what it doesn't say is said to be unknown, and never read as a permission.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.contracts import UNSTATED, DataCard

PEOPLE = "Any decision about a person, and naming or tracking people."
MEANING = (
    "The figures hold for images like the test images and for nothing else. A high accuracy is no statement "
    "that the labels are right, fair or meaningful."
)


@dataclass(frozen=True)
class Rules:
    """Sentences; ``private`` says why what holds images mustn't be passed on, empty where it may."""

    labels: str
    licence: str
    sharing: str
    not_for: str
    people: str
    meaning: str
    private: str


def rules(card: DataCard) -> Rules:
    """What a reader of figures on these data must know."""
    stated = card.license.strip() not in ("", UNSTATED)
    if card.redistributable:
        sharing, private = "Images of it may be passed on under that licence.", ""
    elif stated:
        sharing = "Images of it may not be passed on, nor a report that shows them."
        private = "It holds small copies of images whose licence forbids it."
    else:
        sharing = "Whether images of it may be passed on is not known: until it is, don't."
        private = "It holds small copies of images that nobody is known to have allowed to pass on."
    return Rules(
        labels=card.labels or "Where they come from is not recorded.",
        licence=card.license.rstrip(". ") + "." if stated else UNSTATED,
        sharing=sharing,
        not_for=card.not_for or PEOPLE,
        people=PEOPLE,
        meaning=MEANING,
        private=private,
    )
