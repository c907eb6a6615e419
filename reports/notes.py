"""What goes along with a network that is passed on: its model card, and the terms of its data."""

from __future__ import annotations

from pathlib import Path

from harness.export.notes import Notes
from reports.records import load_records
from reports.render import model_card_text
from reports.responsible import rules
from reports.summary import build_report


def export_notes(folder: Path) -> Notes:
    """Of the finished run in ``folder``. Raises UsageError for one that failed."""
    data = build_report(load_records([folder]))
    card = model_card_text(data, None)
    say = rules(data.experiments[0].data.card)
    terms = {
        "title": data.experiments[0].data.card.title,
        "labels": say.labels,
        "licence": say.licence,
        "sharing": say.sharing,
        "not_for": say.not_for,
    }
    return Notes(card, terms)
