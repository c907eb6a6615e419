"""Whether run folders and the cache still hold what was written: every byte, against its digest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import heatmaps, kept, leakage
from harness.errors import HarnessError, RecordError
from harness.seal import file_digest, intact
from harness.store import RESULT, RunFolder

_SEALED_ALONE = (heatmaps.FILE, leakage.FILE)  # may be written anew after the record


@dataclass(frozen=True)
class Finding:
    """What became of one run or cache entry: ``faults`` is empty where every byte is as written."""

    name: str
    files: int
    nbytes: int
    faults: tuple[str, ...]


def verify_run(folder: Path) -> Finding:
    """A finished run, done or failed: its record's seal, then every file that the record lists."""
    try:
        record = RunFolder(folder).result()
    except RecordError as error:
        return Finding(folder.name, 1, _size(folder / RESULT), (str(error),))
    faults = []
    if intact((folder / RESULT).read_bytes()) is None:
        faults.append(f"'{folder / RESULT}' has no seal: it is of an earlier version, or was changed")
    listed = record.get("files")
    listed = listed if isinstance(listed, dict) else {}
    faults += [fault for name, digest in listed.items() if (fault := _fault(folder / name, digest))]
    later = [name for name in _SEALED_ALONE if (folder / name).exists()]
    for name in later:
        try:
            whole = intact((folder / name).read_bytes())
        except OSError as error:
            faults.append(f"'{folder / name}' can't be read: {error.strerror}")
        else:
            faults += [] if whole else [f"'{folder / name}' isn't what was written (its seal doesn't fit)"]
    names = [RESULT, *listed, *later]
    return Finding(folder.name, len(names), sum(_size(folder / n) for n in names), tuple(faults))


def changed_files(folder: Path) -> list[str]:
    """What is wrong with the files of a finished run that are there; its record alone may have been kept."""
    listed = RunFolder(folder).result().get("files") or {}
    there = ((folder / name, digest) for name, digest in listed.items() if (folder / name).exists())
    return [fault for file, digest in there if (fault := _fault(file, digest))]


def verify_data(folder: Path, path: Path | None, workers: int) -> Finding:
    """The images of a finished run, each read again, against the digest that the record has of them."""
    from harness.data.members import file_of
    from harness.data.prepare import prepare_data
    from harness.spec import DataSpec

    name = f"{folder.name}: its images"
    try:
        record = RunFolder(folder).result()
        where = path or (Path(record["data"]["path"]) if record["data"].get("path") else None)
        data = prepare_data(DataSpec(**record["spec"]["data"]), where, workers, reread=True)
    except (KeyError, TypeError, AttributeError) as error:
        return Finding(name, 0, 0, (f"'{folder / RESULT}' doesn't name them: {error}",))
    except HarnessError as error:
        return Finding(name, 0, 0, (str(error),))
    nbytes = sum(_size(Path(p)) for p in {file_of(p) for p in data.table.paths})
    same = data.digest == record["digests"]["data"]
    fault = f"the images or labels in '{where or data.spec.name}' aren't those that the run had"
    return Finding(name, len(data.table), nbytes, () if same else (fault,))


def verify_cache() -> Iterator[Finding]:
    """Every entry of kept activations, whole or not; what is being written isn't looked at."""
    for entry in kept.entries():
        fault = f"'{entry.folder / 'rows.bin'}' isn't what was written (its digest differs)"
        yield Finding(f"cache {entry.name}", 2, entry.nbytes, (fault,) if kept.damaged(entry) else ())
    for folder in kept.drafts():
        if not folder.name.startswith("."):
            fault = f"'{folder}' isn't a whole entry: harness cache rm --unfinished removes it"
            yield Finding(f"cache {folder.name}", 0, 0, (fault,))


def _fault(file: Path, digest: object) -> str | None:
    try:
        same = file_digest(file) == digest
    except FileNotFoundError:
        return f"'{file}' is gone"
    except OSError as error:
        return f"'{file}' can't be read: {error.strerror}"
    return None if same else f"'{file}' isn't what was written (its digest differs)"


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
