"""Measured bands as TOML, in a part of the suite's file that is theirs; everything else stays as it is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from harness.errors import UsageError
from harness.suites.bands import MAJORITY, Band
from harness.suites.claims import Cell
from harness.suites.evidence import Evidence
from harness.suites.propose import Proposal

BEGIN = "# >>> measured by 'harness bands': written anew by it, keep your own rows elsewhere"
END = "# <<< measured by 'harness bands'"
NAME = "measured"


def section(
    proposals: Sequence[Proposal],
    shared: Mapping[str, str],
    source: Mapping[str, Any],
    shown: Iterable[str],
) -> str:
    """The part: its source, digests that all runs ``shared``, a row a cell with selectors ``shown``."""
    shown = tuple(shown)
    lines = [BEGIN, f"[source.{NAME}]", *(f"{key} = {_value(v)}" for key, v in source.items())]
    lines += ["", "[[expect]]", *(f"{key} = {_value(v)}" for key, v in shared.items())]
    lines += [f"source = {_value(NAME)}"]
    for proposal in proposals:
        rows = list(_row(proposal))
        if rows:
            lines += ["", "[[expect]]", *_selectors(proposal.cell, shown), *rows]
    return "\n".join([*lines, END]) + "\n"


def merged(text: str, part: str, file: str) -> str:
    """``text`` with its measured part replaced by ``part``, or with ``part`` at its end."""
    begins, ends = text.count(BEGIN + "\n"), text.count(END)
    if (begins, ends) not in ((0, 0), (1, 1)) or text.find(BEGIN) > text.find(END):
        raise UsageError(
            f"suite file '{file}': its measured part must begin and end once, with\n{BEGIN}\n{END}"
        )
    if not begins:
        return text.rstrip("\n") + "\n\n" + part
    before, _, rest = text.partition(BEGIN + "\n")
    after = rest.partition(END)[2]
    return before + part + after.removeprefix("\n")


def shared_digests(runs: Iterable[Evidence]) -> dict[str, str]:
    """``data``, ``split`` and ``test_ids`` of all runs. Raises UsageError where they differ."""
    found = {}
    done = [run for run in runs if not run.failed]
    for key in ("data", "split", "test_ids"):
        values = {run.digest(key) for run in done}
        if len(values) != 1:
            raise UsageError(
                f"{len(values)} values of '{key}' among {len(done)} finished runs: nothing to measure"
            )
        found[key] = values.pop()
    return found


def _selectors(cell: Cell, shown: Sequence[str]) -> Iterator[str]:
    for name in shown:
        yield f"{name} = {_value(getattr(cell, name))}"


def _row(proposal: Proposal) -> Iterator[str]:
    for metric, band in proposal.bands.items():
        yield f"{metric} = {_band(band)}"
    if proposal.bands:
        yield f"source = {_value(NAME)}"
    for key, value in proposal.facts.items():
        yield f"{key} = {_value(value)}"
    if proposal.error:
        yield f"error = {_value(proposal.error)}"
    for reason in proposal.left_out:
        yield f"# no band for {reason}"


def _band(band: Band) -> str:
    parts: list[Any] = [MAJORITY] if band.majority else []
    parts += [list(interval) for interval in band.intervals]
    return _value(parts if band.majority or len(parts) > 1 else parts[0])


def _value(value: Any) -> str:
    """A TOML value on one line."""
    if isinstance(value, Mapping):
        return (
            "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }" if value else "{}"
        )
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)


def _key(text: str) -> str:
    return text if text.replace("-", "").replace("_", "").isalnum() and text.isascii() else json.dumps(text)
