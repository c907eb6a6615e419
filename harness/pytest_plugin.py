"""``pytest mine.suite.toml``: each expectation of a suite is a test.

This module is imported by every pytest process of everybody who has the harness installed, so it
imports nothing but pytest until a suite is collected.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness.suites.claims import Claim, Finding

_SUFFIX = ".suite.toml"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where a suite's data lie, and how it trains."""
    group = parser.getgroup("harness", "suites of transfer-harness (*.suite.toml)")
    group.addoption("--harness-data", metavar="NAME=PATH", help="Where a suite's data lie.")
    group.addoption("--harness-device", default="auto", help="auto, cpu, cuda, cuda:N, mps.")
    group.addoption(
        "--harness-threads", type=int, help="CPU threads (default: all cores, shared by workers)."
    )


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> SuiteFile | None:
    """Suites are told by the end of their names."""
    return SuiteFile.from_parent(parent, path=file_path) if file_path.name.endswith(_SUFFIX) else None


def pytest_collection_finish(session: pytest.Session) -> None:
    """Tells each suite what was selected: it trains that and no more, all in one grid."""
    chosen: dict[SuiteFile, list[Claim]] = {}
    for item in session.items:
        if isinstance(item, ExpectationItem):
            chosen.setdefault(item.suite_file, []).append(item.claim)
    for file, claims in chosen.items():
        file.selected = tuple(claims)


class SuiteFile(pytest.File):
    """A suite. Its cells train when the first of its tests runs."""

    selected: tuple[Claim, ...] = ()
    _shown: Mapping[Any, Any] | BaseException | None = None

    def collect(self) -> Iterator[pytest.Item]:
        from harness.errors import HarnessError
        from harness.suites import load_suite
        from harness.suites.claims import claims
        from harness.suites.grid import suite_grid

        try:
            suite = load_suite(self.path)
            self.grid = suite_grid(suite)
            self.suite = suite
            found = claims(suite, self.grid)
        except HarnessError as error:
            raise self.CollectError(str(error)) from None
        for claim in found:
            yield ExpectationItem.from_parent(self, name=claim.name, claim=claim)

    def shown(self) -> Mapping[Any, Any]:
        """What the selected cells show; trained once, by all workers of a session together."""
        if self._shown is None:
            try:
                self._shown = self._train()
            except Exception as error:
                self._shown = error
        if isinstance(self._shown, BaseException):
            raise self._shown
        return self._shown

    def _train(self) -> Mapping[Any, Any]:
        from harness.check import train_cells_of
        from harness.commands.check import suite_and_grid
        from harness.progress import Progress
        from harness.run_options import RunOptions
        from harness.runtime import default_threads, preserved

        options = self.config.option
        workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
        given = {"data": options.harness_data, "weights": None}
        _, path, grid = suite_and_grid(str(self.path), given)
        run = RunOptions(
            out=self._folder(),
            data_path=path,
            device=options.harness_device,
            threads=options.harness_threads or max(1, default_threads() // workers),
        )
        with preserved():
            return train_cells_of(self.selected, grid, run, Progress())

    def _folder(self) -> Path:
        """A folder of this session alone; its workers share it, and its locks share out the work."""
        factory = getattr(self.config, "_tmp_path_factory", None)
        if factory is None:
            return Path(tempfile.mkdtemp(prefix="harness-pytest-"))
        base: Path = factory.getbasetemp()
        base = base.parent if hasattr(self.config, "workerinput") else base
        return base / "harness" / re.sub(r"\W+", "-", str(self.path.resolve())).strip("-")[-100:]

    def missing(self) -> str:
        """Why the suite can't run here at all; empty where it can."""
        from harness.commands.data_paths import data_path
        from harness.plugins import load_dataset

        name = self.grid.data.name
        if self.config.option.harness_data or data_path(name, None):
            return ""
        if self.variable:
            return f"no {name} here: set {self.variable}, or --harness-data {name}=PATH"
        if load_dataset(name).needs_path:
            return f"dataset '{name}' needs a path: --harness-data {name}=PATH"
        return ""

    @property
    def variable(self) -> str:
        """The variable that says where the suite's data lie; empty for data that are always there."""
        from harness.commands.data_paths import DATA_VARIABLES

        return DATA_VARIABLES.get(self.grid.data.name, "")


class ExpectationItem(pytest.Item):
    """One claim of a suite."""

    def __init__(self, *, claim: Claim, **rest: Any) -> None:
        super().__init__(**rest)
        self.claim = claim

    @property
    def suite_file(self) -> SuiteFile:
        assert isinstance(self.parent, SuiteFile)
        return self.parent

    def runtest(self) -> None:
        from harness.suites.claims import judge

        missing = self.suite_file.missing()
        if missing:
            pytest.skip(missing)
        finding = judge(self.claim, self._shown())
        if finding.verdict != "inside":
            raise NotInside(finding)
        self._remember(finding)

    def _shown(self) -> Mapping[Any, Any]:
        from harness.errors import DataError

        try:
            return self.suite_file.shown()
        except DataError as error:
            if self.suite_file.variable:  # what has to be fetched may be there in part
                pytest.skip(str(error))
            raise

    def reportinfo(self) -> tuple[Path, int | None, str]:
        line = self.claim.row.line
        # pytest takes a name for a dotted one, and would show lr=0.001 as lr=0::001.
        return self.path, line - 1 if line else None, f"expectation {self.name}"

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """A finding in a few lines; an error of the harness in one."""
        from harness.errors import HarnessError

        error = excinfo.value
        if isinstance(error, NotInside):
            return self._explained(error.finding)
        return str(error) if isinstance(error, HarnessError) else super().repr_failure(excinfo, style)

    def _explained(self, finding: Finding) -> str:
        from harness.suites.evidence import differences

        claim, source = self.claim, self.claim.row.source
        lines = [f"{claim.title} is {finding.verdict}" if finding.verdict == "outside" else
                 f"{claim.title}: the expectation is {finding.verdict}"]  # fmt: skip
        lines += [f"  value:    {finding.value}", f"  expected: {claim.expected}"]
        lines += [f"  source:   {source.text} ({source.told.get('date', 'no date')})"] if source else []
        lines += [f"  {detail}" for detail in finding.reasons]
        before = self._cache_get()
        if before:
            changed = differences(before["conditions"], finding.conditions)
            what = ", ".join(changed) or "nothing that is recorded changed"
            lines.append(f"  since it was last inside here ({before['date']}, {before['value']}): {what}")
        return "\n".join(lines)

    @property
    def _key(self) -> str:
        return "harness/" + re.sub(r"[^\w.=-]+", "-", f"{self.suite_file.suite.name}/{self.name}")

    def _cache_get(self) -> dict[str, Any] | None:
        cache = getattr(self.config, "cache", None)
        return cache.get(self._key, None) if cache is not None else None

    def _remember(self, finding: Finding) -> None:
        from datetime import UTC, datetime

        cache = getattr(self.config, "cache", None)
        if cache is not None:
            today = datetime.now(UTC).date().isoformat()
            told = {"date": today, "value": finding.value, "conditions": dict(finding.conditions)}
            cache.set(self._key, told)


class NotInside(Exception):
    """An expectation that isn't met, or doesn't apply."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(f"{finding.claim.title} is {finding.verdict}")
        self.finding = finding
