"""A finished run: its record, its files, its network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api.report import Report, write
from harness.errors import RecordError
from harness.spec import RunSpec
from harness.store import RESULT, RunFolder

if TYPE_CHECKING:
    import numpy as np

    from harness.backbones.staged import StagedModel
    from harness.predict import Predictions as Answers
    from harness.trained import TrainedRun
    from reports.record_types import Predictions, Record


@dataclass(frozen=True, eq=False)
class Run:
    """A run that ended. ``record`` is what its ``result.json`` holds, in JSON's types.

    Files are read when they are asked for, and raise RecordError, naming the file, where they are damaged.
    """

    folder: Path
    record: Mapping[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        """The folder's name as it was written; it ends in the run's identity."""
        return str(self.record["run"])

    @property
    def error(self) -> str | None:
        """Why it failed; None for a run that is done."""
        return None if self.record["status"] == "done" else str(self.record["error"])

    @cached_property
    def spec(self) -> RunSpec:
        """What was asked for: data, backbone, strategy, learning rate, seed, training."""
        try:
            return RunSpec.from_dict(self.record["spec"])
        except (KeyError, TypeError) as error:
            raise RecordError(f"'{self.folder / RESULT}' has no valid spec: {error!r}") from error

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self.record["data"]["class_names"])

    @property
    def metrics(self) -> dict[str, Any]:
        """Figures on the test images: ``accuracy`` with its ``accuracy_interval`` (95 %), ``loss`` in nats,
        ``balanced_accuracy``, ``macro_f1``, ``per_class``, ``n``. Raises RecordError for a failed run.
        """
        return dict(self._done("test"))

    @property
    def history(self) -> list[dict[str, Any]]:
        """An entry an epoch: ``epoch``, ``train_loss``, ``val_loss`` (nats), ``train_accuracy``,
        ``val_accuracy`` (fractions), ``seconds`` and more. What wasn't finite is None.
        """
        try:
            return RunFolder(self.folder).read_history()
        except (OSError, ValueError) as error:
            raise RecordError(f"can't read '{self.folder / 'history.jsonl'}': {error}") from error

    @property
    def predictions(self) -> Predictions:
        """Of the test images: ``ids``, ``paths``, ``label`` and ``prediction`` (int64 ``[n]``, indices into
        ``class_names``), ``probabilities`` (float64 ``[n, classes]``), ``attributes``.
        """
        from reports.predictions import read_predictions

        self._done("test")
        return read_predictions(self._read(), attributes=True)

    @property
    def confusion(self) -> np.ndarray:
        """Counts of test images, int64 ``[classes, classes]``: true classes by predicted ones."""
        import numpy as np

        return np.array(self._done("test")["confusion"], dtype=np.int64)

    def model(self, device: str = "cpu", weights: str | None = None) -> StagedModel:
        """The trained network in eval mode on ``device``: uint8 RGB images ``[n, 3, size, size]`` to logits
        float ``[n, classes]``; it normalises them itself. A new one each time, yours to change.

        ``weights`` says where the base weights lie now, if they were moved. Raises RecordError for a failed
        run or a file that is damaged, WeightsError for base weights that are absent.
        """
        return self._trained(device, weights).model

    def predict(
        self,
        images: str | PathLike[str] | Sequence[Any],
        *,
        batch_size: int | None = None,
        device: str = "auto",
        weights: str | None = None,
    ) -> Answers:
        """The trained network's answers to ``images``: a file, a folder, a pattern, or a list of such; or a
        list of images in memory, Pillow's or arrays uint8 ``[h, w, 3]``, whose paths are then their numbers.

        ``classes`` of what comes back are int64 ``[n]``, ``probabilities`` float64 ``[n, classes]``,
        ``top(k)`` has names; ``failed`` maps files that couldn't be decoded to the reason. With the run's
        number of threads, which is set meanwhile, and the default ``batch_size``, the probabilities of test
        images are those of ``predictions``, bit for bit. Raises DataError where there is no image or none can
        be decoded.
        """
        from harness import runtime
        from harness.features import BATCH
        from harness.predict import predict, predict_pixels

        trained = self._trained(device, weights)
        train, size = trained.spec.train, batch_size or BATCH
        with runtime.preserved():
            runtime.configure(trained.threads, train.precision, train.deterministic)
            named: list[Any] = [images] if isinstance(images, str | PathLike) else list(images)
            if named and not isinstance(named[0], str | PathLike):
                return predict_pixels(trained, named, batch_size=size)
            from harness.data.find_images import find_images

            paths = find_images(str(Path(name)) for name in named)
            return predict(trained, paths, batch_size=size, workers=runtime.default_threads())

    def report(self, out: str | PathLike[str] = "report", **options: Any) -> Report:
        """Writes the run's report into folder ``out`` and returns it; a notebook shows its page.

        ``options`` are ``title``, ``examples``, ``seed``, ``against``, ``slices`` and ``images`` as for
        ``harness report``.
        """
        return write([self.folder], Path(out), options)

    @property
    def summary(self) -> str:
        """Test accuracy with its interval in per cent, or why there is none."""
        if self.error is not None:
            return f"failed: {self.error}"
        test = self.metrics
        low, high = test["accuracy_interval"]
        return (
            f"test accuracy {100 * test['accuracy']:.2f} % [{100 * low:.2f}, {100 * high:.2f}], n {test['n']}"
        )

    def __repr__(self) -> str:
        backbone = self.spec.backbone.split(":")[-1]
        return f"Run {backbone} {self.spec.label}: {self.summary}\n  {self.folder}"

    def _repr_html_(self) -> str:
        from reports.notebook import run_html

        return run_html(self.folder)

    def _trained(self, device: str, weights: str | None) -> TrainedRun:
        from harness import runtime, trained

        with runtime.preserved():
            return trained.load_run(self.folder, weights=weights, device=runtime.choose_device(device))

    def _read(self) -> Record:
        from reports.records import load_records

        return load_records([self.folder])[0]

    def _done(self, key: str) -> Mapping[str, Any]:
        found = self.record.get(key)
        if not isinstance(found, Mapping):
            raise RecordError(f"run '{self.name}' failed, so it has no '{key}': {self.error}")
        return found


def load_run(run: str | PathLike[str], runs: str | PathLike[str] = "runs") -> Run:
    """The finished run in folder ``run``, or of that name (or the ten digits at its end) in folder ``runs``.

    Raises UsageError where there is none, RecordError for a record that can't be read.
    """
    from harness.commands.show import find_run

    folder = find_run(str(run), Path(runs))
    return Run(folder, RunFolder(folder).result())
