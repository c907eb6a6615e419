"""What a suite expects, one claim at a time, and whether the records of its runs bear it out."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from harness.errors import UsageError
from harness.spec import Grid, TrainSpec
from harness.suites import Suite
from harness.suites.evidence import Evidence, differences
from harness.suites.expect import AUDITS, DIGESTS, Expectation, Rates
from harness.suites.grid import recipe, suite_grid

PROBE_TOLERANCE = 1e-3  # relative
Verdict = Literal["inside", "outside", "not applicable"]


class Cell(NamedTuple):
    """A cell of a grid, as the suite writes it."""

    backbone: str
    head: str
    strategy: str
    lr: float
    seed: int

    def __str__(self) -> str:
        head = "" if self.head == "own" else f" head={self.head}"
        return f"{self.backbone.split(':')[-1]}{head} {self.strategy} lr={self.lr:g} seed={self.seed}"


@dataclass(frozen=True)
class Claim:
    """One thing that one row expects (``what``: a metric, a digest, an audit, ``error``), of ``cells``."""

    what: str
    row: Expectation
    cells: tuple[Cell, ...]

    @property
    def subject(self) -> str:
        """Of which cells."""
        return str(self.cells[0]) if len(self.cells) == 1 else "all cells"

    @property
    def title(self) -> str:
        """What it is about, as people read it."""
        return f"{self.subject}: {self.what}"

    @property
    def name(self) -> str:
        """The same without spaces, for tests."""
        return re.sub(r"[\s:]+", "-", self.title)

    @property
    def expected(self) -> str:
        """The band, or what else is expected."""
        row = self.row
        if self.what in row.bands:
            return str(row.bands[self.what])
        if self.what in DIGESTS:
            return row.digests[self.what][:10]
        if self.what == "trains":
            return _rates(row.trains or {})
        if self.what == "error":
            return f"error '{row.error}'"
        if self.what == "prefix":
            return _pair(row.prefix)
        return str(row.parameters) if self.what == "parameters" else ", ".join(row.norms or ()) or "none"

    @property
    def source(self) -> str:
        """The name of who says so."""
        return self.row.source.name if self.row.source else "suite"


@dataclass(frozen=True)
class Finding:
    """What came of a claim; ``reason`` says why it is outside or not applicable."""

    claim: Claim
    value: str
    verdict: Verdict
    reason: str = ""
    conditions: Mapping[str, Any] = field(default_factory=dict)  # of the run that it was found in

    @property
    def details(self) -> list[str]:
        """The reasons, and whole values where they are long."""
        lines = self.reasons
        if len(self.value) > 60 or len(self.claim.expected) > 60:
            lines += [f"value:    {self.value}", f"expected: {self.claim.expected}"]
        return lines

    @property
    def reasons(self) -> list[str]:
        """The reason, and what differs from when the band was measured."""
        lines = [self.reason] if self.reason else []
        source = self.claim.row.source
        if source and self.claim.what != "error":
            changed = differences(
                {**source.told, "data": source.data, "split": source.split}, self.conditions
            )
            lines.append(f"since it was measured: {', '.join(changed) or 'nothing that is recorded changed'}")
        return lines


def claims(suite: Suite, grid: Grid) -> tuple[Claim, ...]:
    """Every claim of ``suite`` about cells of ``grid``, in the order of the rows.

    Raises UsageError, with the line, for a row that names no cell of the suite's own grid.
    """
    own = [Cell(*cell) for cell in suite_grid(suite).cells()]
    asked = [Cell(*cell) for cell in grid.cells()]
    found: list[Claim] = []
    for row in suite.expectations:
        if row.error is not None:
            found.append(Claim("error", row, (_lone_cell(row, grid),)))
            continue
        if not any(_selects(row, cell) for cell in own):
            where = f", line {row.line}" if row.line else ""
            raise UsageError(f"suite '{suite.name}'{where}: [[expect]] names no cell of the suite's grid")
        cells = tuple(cell for cell in asked if _selects(row, cell))
        each = [*row.bands, *(a for a in AUDITS if getattr(row, a) is not None)]
        found += [Claim(what, row, cells) for what in row.digests if cells]
        found += [Claim(what, row, (cell,)) for cell in cells for what in each]
    return tuple(found)


def _selects(row: Expectation, cell: Cell) -> bool:
    return all(getattr(row, name) in (None, value) for name, value in cell._asdict().items())


def _lone_cell(row: Expectation, grid: Grid) -> Cell:
    """The cell of a row that expects an error: it needn't be in the grid."""
    return Cell(
        row.backbone or grid.backbones[0],
        row.head or grid.heads[0],
        row.strategy or grid.strategies[0],
        row.lr if row.lr is not None else grid.lrs[0],
        row.seed if row.seed is not None else grid.seeds[0],
    )


def judge(claim: Claim, shown: Mapping[Cell, Evidence | str], overridden: Sequence[str] = ()) -> Finding:
    """Holds a claim against what its cells showed: a run, or the message they ended with.

    ``overridden`` names what was asked for otherwise than the suite says; then nothing applies.
    """
    evidence = [shown[cell] for cell in claim.cells if cell in shown]
    conditions = next((e.conditions for e in evidence if isinstance(e, Evidence)), {})
    found = replace(_judge(claim, evidence), conditions=conditions)
    if overridden:
        return replace(found, verdict="not applicable", reason=f"overridden: {', '.join(overridden)}")
    return found


def _judge(claim: Claim, evidence: Sequence[Evidence | str]) -> Finding:
    if claim.what == "error":
        return _judge_error(claim, evidence[0])
    runs = []
    for found in evidence:
        message = found if isinstance(found, str) else found.failed
        if message:
            return Finding(claim, "failed", "outside", message)
        if isinstance(found, Evidence):
            runs.append(found)
    if claim.what in DIGESTS:
        return _judge_digest(claim, runs)
    return _judge_band(claim, runs[0]) if claim.what in claim.row.bands else _judge_audit(claim, runs[0])


def _judge_error(claim: Claim, found: Evidence | str) -> Finding:
    message = found if isinstance(found, str) else found.failed
    if not message:
        return Finding(claim, "no error", "outside", "the run ended without an error")
    inside = (claim.row.error or "") in message
    return Finding(claim, message, "inside" if inside else "outside", "" if inside else "another error")


def _judge_digest(claim: Claim, runs: Sequence[Evidence]) -> Finding:
    values = sorted({run.digest(claim.what) for run in runs})
    inside = values == [claim.row.digests[claim.what]]
    shown = ", ".join(value[:10] for value in values)
    return Finding(claim, shown, "inside" if inside else "outside", "" if inside else "other digest")


def _judge_band(claim: Claim, run: Evidence) -> Finding:
    value = run.figure(claim.what)
    inapplicable = list(_not_bound(claim.row, run))
    if inapplicable:
        return Finding(claim, f"{value:.4f}", "not applicable", "; ".join(inapplicable))
    inside = claim.row.bands[claim.what].holds(value, run.majority)
    return Finding(claim, f"{value:.4f}", "inside" if inside else "outside")


def _not_bound(row: Expectation, run: Evidence) -> Iterator[str]:
    """How the run differs from what the band was measured on."""
    if row.source is None:
        return
    for name, value in (("data", row.source.data), ("split", row.source.split)):
        if run.digest(name) != value:
            yield f"measured on other {name}: {value[:10]}, here {run.digest(name)[:10]}"
    weights = str(run.record["digests"]["weights"])
    if row.source.weights and weights not in row.source.weights:
        yield f"measured with other weights, here {weights[:10]}"
    measured = {**recipe(TrainSpec()), **row.source.recipe}
    here = recipe(TrainSpec(**run.record["spec"]["train"]))
    for key in sorted(measured.keys() | here.keys()):
        if measured.get(key) != here.get(key):
            yield f"measured with {key} {measured.get(key, 'default')}, here {here.get(key, 'default')}"


def _judge_audit(claim: Claim, run: Evidence) -> Finding:
    row = claim.row
    if claim.what == "trains":
        value, inside = _rates(run.trains), _same_rates(row.trains or {}, run.trains)
    elif claim.what == "prefix":
        value, inside = _pair(run.prefix), near(row.prefix, run.prefix)
    elif claim.what == "parameters":
        value, inside = str(run.parameters), run.parameters == row.parameters
    else:
        value, inside = ", ".join(run.norms) or "none", set(run.norms) == set(row.norms or ())
    return Finding(claim, value, "inside" if inside else "outside")


def near(a: tuple[float, float] | None, b: tuple[float, float] | None) -> bool:
    """Whether two probes are of one prefix: other machines' arithmetic differs far less."""
    return bool(
        a and b and all(math.isclose(x, y, rel_tol=PROBE_TOLERANCE) for x, y in zip(a, b, strict=True))
    )


def _pair(probe: tuple[float, float] | None) -> str:
    return f"{probe[0]:.6g}, {probe[1]:.6g}" if probe else "none"


def _same_rates(a: Mapping[str, Rates], b: Mapping[str, Rates]) -> bool:
    """Learning rates to nine digits: products of factors differ in the last ones from what people write."""
    return {s: [(x, y, f"{lr:.9g}") for x, y, lr in spans] for s, spans in a.items()} == {
        s: [(x, y, f"{lr:.9g}") for x, y, lr in spans] for s, spans in b.items()
    }


def _rates(trains: Mapping[str, Rates]) -> str:
    """``head 1e-3 (1-10)``, or ``nothing``."""
    shown = (f"{s} {', '.join(f'{lr:g} ({a}-{b})' for a, b, lr in spans)}" for s, spans in trains.items())
    return "; ".join(shown) or "nothing"
