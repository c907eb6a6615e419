"""Numbers as the report shows them, the same everywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.stats import Interval


def percent(share: float) -> str:
    """``0.91833`` as ``91.83 %``."""
    return f"{100 * share:.2f} %"


def interval(ends: Interval) -> str:
    """The ends of an interval of a share, ``[90.80, 92.76]``, in percent."""
    return f"[{100 * ends.low:.2f}, {100 * ends.high:.2f}]".replace("-", "−")


def area(value: float | None) -> str:
    """The area under a curve: ``0.973``."""
    return "none" if value is None else f"{value:.3f}"


def size(n: float | None) -> str:
    """Bytes: ``512 MiB``, ``1.3 GiB``."""
    if n is None:
        return "none"
    return f"{n / 2**20:.0f} MiB" if n < 2**30 else f"{n / 2**30:.1f} GiB"


def short_count(n: float) -> str:
    """A count to three digits: ``119 M``, ``8.19 k``, ``132 k``."""
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if n >= unit:
            return f"{n / unit:.3g}{name}"
    return f"{n:g}"


def points(difference: float) -> str:
    """A difference of shares in percentage points, signed: ``+0.93``."""
    shown = f"{100 * difference:+.2f}"
    return "0.00" if shown in ("+0.00", "-0.00") else shown.replace("-", "−")


def width(deviation: float) -> str:
    """A deviation or an error of a share in percentage points: ``0.31``."""
    return f"{100 * deviation:.2f}"


def rate(lr: float) -> str:
    """A learning rate: ``1e-3``, ``2.5e-4``, ``0.05``."""
    if lr >= 0.01 or lr <= 0:
        return f"{lr:g}"
    mantissa, exponent = f"{lr:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def rates(spans: Sequence[tuple[int, int, float]], epochs: int) -> str:
    """Learning rates by epoch, to three digits: ``1e-3`` throughout, or ``1-3: 1e-3, 5: 1e-4``."""
    if not spans:
        return "frozen"
    if [span[:2] for span in spans] == [(1, epochs)]:
        return short_rate(spans[0][2])
    return ", ".join(
        f"{first if first == last else f'{first}-{last}'}: {short_rate(lr)}" for first, last, lr in spans
    )


def short_rate(lr: float) -> str:
    """A learning rate to three digits: multipliers make long ones."""
    return rate(float(f"{lr:.3g}"))


def p_value(p: float) -> str:
    """``p = 0.20`` or ``p < 0.0001``."""
    shown = p_number(p)
    return f"p {shown}" if shown.startswith("<") else f"p = {shown}"


def p_number(p: float) -> str:
    """A p-value for a column of them: ``0.20``, ``0.0031`` or ``< 0.0001``."""
    if p < 0.0001:
        return "< 0.0001"
    return f"{p:.4f}" if p < 0.01 else f"{p:.2f}"


def count(n: int) -> str:
    """``24000`` as ``24,000``."""
    return f"{n:,}"


def distance(moved: float | None) -> str:
    """A relative distance: ``1.2e-02``."""
    return "none" if moved is None else f"{moved:.1e}" if moved else "0"


def plural(n: int, one: str, many: str | None = None) -> str:
    """``1 image``, ``24,000 images``."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def loss(value: float | None) -> str:
    """A loss in nats with three decimals; says so where it isn't finite."""
    if value is None:
        return "none"
    return f"{value:.3f}" if math.isfinite(value) else "not finite"


def seconds(s: float) -> str:
    """``4.2 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if s < 60:
        return f"{s:.1f} s"
    whole = round(s)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def listing(names: list[str] | tuple[str, ...], most: int = 8) -> str:
    """``a``, ``a and b``, ``a, b and c``; names that hold commas are parted by semicolons.

    Of more than ``most`` names the rest is counted.
    """
    if len(names) > most:
        names = [*names[:most], f"{len(names) - most} more"]
    if len(names) < 2:
        return "".join(names)
    comma = "; " if any("," in name for name in names) else ", "
    last = "; and " if comma == "; " else " and "
    return comma.join(names[:-1]) + last + names[-1]
