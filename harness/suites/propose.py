"""Bands from measurement: what a cell's seeds say of the next run of it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from scipy.optimize import brentq
from scipy.special import digamma, polygamma
from scipy.stats import t as student

from harness.stats import Interval
from harness.suites.bands import Band
from harness.suites.claims import Cell, near
from harness.suites.evidence import Evidence

MEASURED = ("accuracy", "loss", "train_accuracy", "moved")
_SHARES = ("accuracy", "train_accuracy")
FEWEST = 3  # values without which a spread is not worth the name
_DECIMALS = {"moved": 6}  # else four


@dataclass(frozen=True)
class Proposal:
    """What the seeds of one cell (its ``seed`` is the first) support.

    ``bands`` holds what could be measured, ``facts`` what was the same for every seed (``trains``,
    ``parameters``, ``prefix``, ``norms``), ``error`` how every seed ended, where all ended with that;
    ``left_out`` says what has no band and why.
    """

    cell: Cell
    bands: Mapping[str, Band]
    facts: Mapping[str, object]
    error: str
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Prior:
    """What the variances of a suite's cells have in common: ``degrees`` of freedom around ``variance``.

    No degrees: nothing; infinitely many: all cells vary alike.
    """

    degrees: float = 0.0
    variance: float = 0.0

    @classmethod
    def fit(cls, samples: Iterable[Sequence[float]]) -> Prior:
        """From the logarithms of the samples' variances (Smyth 2004, SAGMB 3:3, 6.2)."""
        found = [(statistics.variance(x), len(x) - 1) for x in samples if len(x) >= FEWEST]
        found = [(variance, degrees) for variance, degrees in found if variance > 0]
        if len(found) < FEWEST:
            return cls()
        logs = [math.log(v) - float(digamma(d / 2)) + math.log(d / 2) for v, d in found]
        excess = statistics.variance(logs) - statistics.fmean(float(polygamma(1, d / 2)) for _, d in found)
        mean = statistics.fmean(logs)
        if excess <= 0:
            return cls(math.inf, math.exp(mean))
        half = brentq(lambda x: math.log(polygamma(1, x) / excess), 1e-8, 1e8)
        return cls(2 * half, math.exp(mean + float(digamma(half)) - math.log(half)))


def prediction_interval(
    values: Sequence[float], coverage: float, resolution: float = 0.0, prior: Prior = Prior()
) -> Interval:
    """Where the next value lies with probability ``coverage``, if values are normal and independent.

    Mean and Student's t times s sqrt(1 + 1/n): the prediction interval for one future observation
    (Hahn and Meeker, Statistical Intervals, 1991, 4.7), its variance and degrees of freedom moderated by
    ``prior`` (Smyth 2004). ``resolution`` is the distance of neighbouring values: rounding to it adds
    its variance, resolution^2 / 12.
    """
    n = len(values)
    if n < FEWEST:
        raise ValueError(f"{n} values are too few for an interval")
    own, degrees = statistics.variance(values), n - 1 + prior.degrees
    share = 1.0 if math.isinf(degrees) else prior.degrees / degrees
    spread = math.sqrt(share * prior.variance + (1 - share) * own + resolution**2 / 12)
    half = float(student.ppf((1 + coverage) / 2, degrees)) * spread * math.sqrt(1 + 1 / n)
    mean = statistics.fmean(values)
    return Interval(mean - half, mean + half)


def each_coverage(coverage: float, bands: int) -> float:
    """What each of ``bands`` must cover so that all do with probability ``coverage`` (Bonferroni)."""
    return 1 - (1 - coverage) / max(bands, 1)


def propose(measured: Mapping[Cell, Sequence[Evidence]], coverage: float) -> tuple[Proposal, ...]:
    """A proposal for each cell, so that one more run of all of them stays inside with ``coverage``."""
    values = {cell: _Values.of(runs) for cell, runs in measured.items()}
    count = sum(len(v.wanted) for v in values.values())
    each = each_coverage(coverage, count)
    priors = {
        metric: Prior.fit(_scaled(metric, v.good[metric]) for v in values.values() if metric in v.wanted)
        for metric in MEASURED
    }
    return tuple(_proposal(cell, measured[cell], found, each, priors) for cell, found in values.items())


@dataclass(frozen=True)
class _Values:
    """Figures of the seeds that didn't collapse, and how many did."""

    good: Mapping[str, tuple[float, ...]]
    collapsed: int
    images: Mapping[str, int]  # by metric: of how many the share is

    @classmethod
    def of(cls, runs: Sequence[Evidence]) -> _Values:
        done = [run for run in runs if not run.failed]
        stood = [run for run in done if not run.collapsed]
        good = {metric: tuple(run.figure(metric) for run in stood) for metric in MEASURED}
        images = {}
        if done:
            record = done[0].record
            images = {
                "accuracy": record["test"]["n"],
                "train_accuracy": sum(record["data"]["counts"]["train"]),
            }
        return cls(good, len(done) - len(stood), images)

    @property
    def wanted(self) -> tuple[str, ...]:
        """Metrics with enough values for an interval. A collapse has an accuracy, but no loss of its own."""
        if len(self.good["accuracy"]) < FEWEST:
            return ()
        still = min(self.good["moved"]) <= 0  # has no logarithm
        return tuple(
            m for m in MEASURED if m == "accuracy" or not (self.collapsed or (m == "moved" and still))
        )


def _proposal(
    cell: Cell, runs: Sequence[Evidence], values: _Values, coverage: float, priors: Mapping[str, Prior]
) -> Proposal:
    failures = [run.failed for run in runs if run.failed]
    if failures:
        kinds = {text.split(":")[0] for text in failures}
        if len(failures) == len(runs) and len(kinds) == 1:
            return Proposal(cell, {}, {}, kinds.pop(), ())
        return Proposal(cell, {}, {}, "", (f"{len(failures)} of {len(runs)} seeds failed: {failures[0]}",))
    bands: dict[str, Band] = {}
    left_out: tuple[str, ...] = ()
    for metric in values.wanted:
        low, high = _interval(metric, values, coverage, priors[metric])
        if low <= 0 and (high >= 1 or metric not in _SHARES):
            left_out = (*left_out, f"{metric}: its values are spread over all there is")
            continue
        top = 1.0 if metric in _SHARES else math.inf
        edges = _outward(max(low, 0.0), min(high, top), _DECIMALS.get(metric, 4))
        bands[metric] = Band((edges,), bool(values.collapsed))
    if values.wanted and values.collapsed:
        rest = ", ".join(m for m in MEASURED if m not in values.wanted)
        left_out = (*left_out, f"{rest}: {values.collapsed} of {len(runs)} seeds collapsed")
    if len(runs) < FEWEST:
        left_out = (f"accuracy: {len(runs)} seeds are too few",)
    elif not values.wanted and values.collapsed == len(runs):
        bands["accuracy"] = Band((), majority=True)
    elif not values.wanted:
        left_out = (f"accuracy: {values.collapsed} of {len(runs)} seeds collapsed, too few did not",)
    return Proposal(cell, bands, dict(_facts(runs)), "", left_out)


def _scaled(metric: str, values: Sequence[float]) -> Sequence[float]:
    """A distance that grows with the learning rate varies by factors, so its logarithm is what is normal."""
    return [math.log(x) for x in values] if metric == "moved" else values


def _interval(metric: str, values: _Values, coverage: float, prior: Prior) -> Interval:
    resolution = 1 / values.images[metric] if metric in _SHARES else 0.0
    found = prediction_interval(_scaled(metric, values.good[metric]), coverage, resolution, prior)
    return Interval(math.exp(found.low), math.exp(found.high)) if metric == "moved" else found


def _facts(runs: Sequence[Evidence]) -> Iterator[tuple[str, object]]:
    """What all seeds have in common; a network without norm statistics has none that change."""
    first = runs[0]
    if all(run.trains == first.trains for run in runs):
        yield "trains", first.trains
    if all(run.parameters == first.parameters for run in runs):
        yield "parameters", first.parameters
    if first.prefix and all(near(run.prefix, first.prefix) for run in runs):
        yield "prefix", [float(f"{mean:.6g}") for mean in first.prefix]
    stages = first.record["backbone"]["stages"]
    if any(s["norm_statistics"] for s in stages) and all(run.norms == first.norms for run in runs):
        yield "norms", first.norms


def _outward(low: float, high: float, decimals: int) -> Interval:
    scale = 10**decimals
    return Interval(math.floor(low * scale) / scale, math.ceil(high * scale) / scale)
