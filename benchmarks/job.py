"""One measured job in a process of its own: ``python -m benchmarks.job RIVAL WORK`` prints a line of JSON."""

from __future__ import annotations

import json
import sys
import traceback
from contextlib import redirect_stdout
from dataclasses import asdict
from importlib import import_module
from time import perf_counter
from types import ModuleType

from benchmarks.results import JobResult
from benchmarks.rivals import RIVALS
from benchmarks.work import Work

_SECONDS_BETWEEN_LINES = 10.0


class Say:
    """Lines on standard error, at most one in ten seconds."""

    def __init__(self, rival: str) -> None:
        self._rival = rival
        self._began = perf_counter()
        self._last = self._began

    def __call__(self, text: str) -> None:
        now = perf_counter()
        if now - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = now
            print(f"  {self._rival}: {text}, {now - self._began:.0f} s", file=sys.stderr, flush=True)


def measure(rival: str, work: Work) -> JobResult:
    """Imports the rival, does the work, and says what both took; a failure is a result too."""
    began = perf_counter()
    try:
        module = import_module(f"benchmarks.rivals.{RIVALS[rival].module}")
        import_module("benchmarks.setting").preload(work)
    except ModuleNotFoundError as error:
        return JobResult(rival, error=_absent(rival, error))
    except Exception as error:  # other versions of a package may fail in any way at import
        return JobResult(rival, error=_reason(error))
    import_s = perf_counter() - began
    began = perf_counter()
    try:
        outcome = module.run(work, Say(rival))
        wall_s = perf_counter() - began
        peak = _peak_mb()
        extra = dict(outcome.extra) | _probed(module, work, outcome)
    except Exception as error:
        traceback.print_exc()
        return JobResult(rival, error=_reason(error))
    return JobResult(rival, import_s, wall_s, outcome.phases, outcome.cells, peak, extra)


def _probed(module: ModuleType, work: Work, outcome: object) -> dict[str, object]:
    return module.probe(work, outcome) if hasattr(module, "probe") else {}


def _absent(rival: str, error: ModuleNotFoundError) -> str:
    package = RIVALS[rival].package
    if package is None:
        return _reason(error)
    return f"needs the package {package} ('{error.name}' is absent): pip install {package}"


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"


def _peak_mb() -> float | None:
    """The most memory that this process has held, without its children; None where no one counts it."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    """Whatever else is printed goes to standard error."""
    rival, text = sys.argv[1:]
    with redirect_stdout(sys.stderr):
        result = measure(rival, Work.from_json(text))
    print(json.dumps(asdict(result)), flush=True)


if __name__ == "__main__":
    main()
