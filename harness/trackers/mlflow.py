"""MLflow: one run a training, in any store that MLflow knows; by default a SQLite file."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.tracked import Held, TrackedEnd, TrackedEpoch, TrackedRun

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_RUN, _RECORD = "harness.run", "harness.record"  # tags: the folder's name, its record's digest
_AT_ONCE = 1000  # metrics in one call, by MLflow's own limit
_LONGEST = 6000  # characters of a parameter, ditto; tags may be longer
_SETTINGS = {  # before mlflow is imported: no word to its makers, no lines about the tables it creates
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    # A server that doesn't answer is said after seconds; by default each call tries for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


@dataclass(frozen=True)
class MLflow:
    """Metrics by epoch, parameters, tags, final figures, confusion matrix and record as artifacts.

    ``uri`` names the store and ``experiment`` the experiment in it; without them MLFLOW_TRACKING_URI and
    MLFLOW_EXPERIMENT_NAME, else ``sqlite:///mlflow.db`` and ``harness``.
    """

    summary: ClassVar[str] = "an MLflow store, by default sqlite:///mlflow.db"
    needs: ClassVar[tuple[str, ...]] = ("mlflow", "sqlalchemy", "alembic")
    live: ClassVar[bool] = True

    uri: str | None = None
    experiment: str | None = None

    @cached_property
    def _client(self) -> MlflowClient:
        for name, value in _SETTINGS.items():
            os.environ.setdefault(name, value)
        from mlflow.tracking import MlflowClient

        return MlflowClient(tracking_uri=self._where())

    def _where(self) -> str:
        """The store, whose file doesn't depend on where MLflow thinks it is."""
        uri = self.uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
        scheme, colon, path = uri.partition(":///")
        return f"{scheme}{colon}{Path(path).absolute()}" if scheme == "sqlite" else uri

    @cached_property
    def _experiment(self) -> str:
        name = self.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "harness"
        found = self._client.get_experiment_by_name(name)
        return found.experiment_id if found else self._client.create_experiment(name)

    def held(self, run: TrackedRun) -> tuple[Held, ...]:
        """What the experiment has under the name of ``run``."""
        found = self._client.search_runs([self._experiment], f"tags.`{_RUN}` = '{run.name}'")
        return tuple(self._held(r.info.run_id, r.data) for r in found)

    def _held(self, key: str, data: Any) -> Held:
        epochs: dict[int, dict[str, float]] = {}
        digest = data.tags.get(_RECORD, "")
        # A run that has ended is known by its record.
        for name in () if digest else (n for n in data.metrics if "/" not in n):
            for metric in self._client.get_metric_history(key, name):
                epochs.setdefault(metric.step, {})[name] = metric.value
        return Held(key, epochs, digest)

    def write(
        self, run: TrackedRun, key: str | None, epochs: Sequence[TrackedEpoch], end: TrackedEnd | None
    ) -> None:
        """Logs epochs and the end to the MLflow run ``key``, or to a new one."""
        key = key or self._begin(run)
        for row in epochs:
            self._metrics(key, row.figures, row.at, row.epoch)
        if end:
            self._params(key, run)  # again, since whoever began may have been killed before
            self._end(key, end, int(run.params["train.epochs"]))

    def _begin(self, run: TrackedRun) -> str:
        made = self._client.create_run(
            self._experiment, start_time=_ms(run.started), run_name=run.name, tags={_RUN: run.name}
        )
        self._params(made.info.run_id, run)
        return str(made.info.run_id)

    def _params(self, key: str, run: TrackedRun) -> None:
        from mlflow.entities import Param

        params = [Param(name, str(value)[:_LONGEST]) for name, value in run.params.items()]
        self._client.log_batch(key, params=params)

    def _metrics(self, key: str, figures: Mapping[str, float], at: float, step: int) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(_legal(name), value, _ms(at), step) for name, value in figures.items()]
        for first in range(0, len(metrics), _AT_ONCE):
            self._client.log_batch(key, metrics=metrics[first : first + _AT_ONCE])

    def _end(self, key: str, end: TrackedEnd, step: int) -> None:
        from mlflow.entities import RunTag

        self._metrics(key, end.figures, end.at, step)
        tags = [RunTag(name, value[:_LONGEST]) for name, value in end.tags.items()]
        self._client.log_batch(key, tags=tags)
        if end.confusion:
            self._client.log_text(key, _csv(end), "confusion.csv")
        for file in end.files:
            self._client.log_artifact(key, str(file))
        self._client.set_terminated(key, "FINISHED" if end.status == "done" else "FAILED", _ms(end.at))
        self._client.set_tag(key, _RECORD, end.digest)  # last: it says that all the rest is there


def _ms(seconds: float) -> int:
    return round(1000 * seconds)


def _legal(name: str) -> str:
    """MLflow takes few characters in names; those of a class (the third part) that it doesn't, by number."""
    parts = name.split("/", 2)
    parts[2:] = [re.sub(r"[^\w -]", lambda found: f"_{ord(found[0]):x}_", part) for part in parts[2:]]
    return "/".join(parts)


def _csv(end: TrackedEnd) -> str:
    """A row a true class, a column a predicted one."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["true", *end.class_names])
    writer.writerows([name, *row] for name, row in zip(end.class_names, end.confusion, strict=True))
    return out.getvalue()
