"""From a data spec to samples and a split; no torch."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from harness.contracts import SampleTable
from harness.data.content import content_digests
from harness.data.splits import Split, limit_table, make_split, resolve_kind
from harness.errors import DataError
from harness.leakage import Leakage, belonging, find_leakage
from harness.plugins import DATASETS, blamed, load_dataset
from harness.spec import DataSpec


@dataclass(frozen=True, eq=False)
class PreparedData:
    """The samples a grid runs on. ``spec`` is resolved: target and split are the ones in use.

    ``digest`` is of ids, labels and images in order, ``images_digest`` of the images alone, ``contents``
    (hex) of each image file.
    """

    spec: DataSpec
    path: Path | None
    table: SampleTable
    split: Split
    digest: str
    images_digest: str
    contents: tuple[str, ...]

    @cached_property
    def leakage(self) -> Leakage:
        """Which test images are in training too, as far as bytes and groups tell."""
        split = self.split
        belongs = belonging({"data": self.digest, "split": split.digest})
        return find_leakage(self.table, self.contents, split.train, split.test, belongs)


def read_samples(spec: DataSpec, path: Path | None) -> tuple[DataSpec, SampleTable]:
    """The samples that a spec asks for, and the spec with its target and split resolved."""
    dataset = load_dataset(spec.name)
    if spec.missing not in ("error", "skip"):
        raise DataError(f"--missing is 'error' or 'skip', not '{spec.missing}'")
    target = spec.target or dataset.default_target
    with blamed(DATASETS, spec.name, f"dataset '{spec.name}'", "can't be read"):
        table = dataset.read(path, target=target, missing=spec.missing)
        if not isinstance(table, SampleTable):
            raise TypeError(f"read() gave a {type(table).__name__}, not a SampleTable")
    _check_names(table)
    wanted = dataset.default_split if spec.split == "auto" and spec.group is None else spec.split
    kind = resolve_kind(table, wanted, spec.group)
    if spec.limit is not None:
        table = limit_table(table, spec.limit, spec.split_seed, kind)
    return replace(spec, target=table.target, split=kind), table


def prepare_data(spec: DataSpec, path: Path | None, workers: int, *, reread: bool = False) -> PreparedData:
    """Reads, limits, splits and hashes; nothing is decoded. ``reread`` trusts no remembered digest."""
    resolved, table = read_samples(spec, path)
    split = make_split(table, resolved.split, spec.split_seed, spec.group)
    with ThreadPoolExecutor(max_workers=workers) as pool:
        digests = content_digests(table, pool, reread=reread)
    return PreparedData(resolved, path, table, split, digests.samples, digests.images, digests.files)


def _check_names(table: SampleTable) -> None:
    """Records, reports and digests are UTF-8; a file name that isn't could only be garbled there."""
    for name in table.paths:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise DataError(f"the file name {name!r} isn't valid UTF-8: rename it") from None
